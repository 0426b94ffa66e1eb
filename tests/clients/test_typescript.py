"""The TypeScript client with a real server. Its other tests are in clients/typescript/test."""

import os
import subprocess

from support import SECRET
from wire.server import ROOT, Server

CLIENT = ROOT / "clients" / "typescript"


def test_devices_of_a_user_stay_in_step_with_a_server(server: Server) -> None:
    program = CLIENT / "node_modules" / ".bin" / "vitest"
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "API_URL": server.url, "API_SECRET": SECRET}

    done = subprocess.run(
        [program, "run", "--config", "vitest.integration.ts"],
        cwd=CLIENT,
        env=variables,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
