"""The table of tasks, which the benchmark creates."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Task(models.Model):
    """A stored task."""

    id = models.AutoField(primary_key=True)
    user_id = models.CharField(db_index=True)
    title = models.CharField(max_length=200)
    description = models.CharField(max_length=1000, null=True)  # noqa: DJ001 (clients send and receive null)
    completed = models.BooleanField(default=False)
    priority = models.CharField(null=True)  # noqa: DJ001 (likewise)
    due_date = models.DateTimeField(null=True)
    tags = ArrayField(models.CharField(), default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    completed_at = models.DateTimeField(null=True)

    class Meta:
        """The table exists already."""

        managed = False
        db_table = "peer_tasks"
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        """Return the title."""
        return self.title
