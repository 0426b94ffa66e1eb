"""Imports with PostgreSQL: once however often, all or nothing, in one round trip, and within bounds."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from support import assert_problem, bearer, call_as, new_user

from todo.database.timeouts import BATCH_LIMITS
from todo.importing import imports
