"""Three users compared with a model of their lists: no request of one user shows in another's responses."""

from datetime import datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from support import assert_problem, bearer, new_user

from todo.tasks.search import shows_nothing

# The characters that PostgreSQL can store: no NUL, no surrogates.
TEXT = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TITLES = st.text(TEXT, min_size=1, max_size=200).filter(lambda title: not shows_nothing(title))
DESCRIPTIONS = st.none() | st.text(TEXT, max_size=1000)
PRIORITIES = st.sampled_from([None, "low", "medium", "high"])
TAGS = st.lists(st.sampled_from(["home", "work", "café", "😀"]), unique=True)
USERS = st.integers(0, 2)
PICK = st.integers(0, 10**6)


@pytest.mark.slow
def test_users_never_see_each_other(client):  # noqa: C901 (the machine is one class with all calls)
    class Users(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.users = [new_user() for _ in range(3)]
            self.headers = [bearer(user) for user in self.users]
            # What each user should have: task id -> task, in creation order.
            self.model = [{}, {}, {}]
            self.last_id = 0
            # How many changes each has made.
            self.revisions = [0, 0, 0]

        def call(self, who, method, path="", body=None):
            return client.open(f"/api/me/tasks{path}", method=method, headers=self.headers[who], json=body)

        def pick(self, pick):
            """Choose a task of any user, or one that never existed."""
            known = [task for tasks in self.model for task in tasks] or [2**62]
            return known[pick % len(known)]

        def changed(self, who, task, response, **members):
            """Compare the response to a change with the model, and update the model."""
            if task not in self.model[who]:
                assert_problem(response, 404, "Task not found")
                return
            assert response.status_code == 200
            before, after = self.model[who][task], response.json
            if before == before | members:
                assert after == before
                return
            assert datetime.fromisoformat(after["updated_at"]) > datetime.fromisoformat(before["updated_at"])
            self.revisions[who] += 1
            completed_at = None
            if members.get("completed", before["completed"]):
                completed_at = before["completed_at"] or after["updated_at"]
            moved = {"updated_at": after["updated_at"], "revision": self.revisions[who]}
            assert after == before | members | moved | {"completed_at": completed_at}
            self.model[who][task] = after

        @rule(
            who=USERS, title=TITLES, description=DESCRIPTIONS, completed=st.booleans(), priority=PRIORITIES, tags=TAGS
        )
        def create(self, who, title, description, completed, priority, tags):
            body = {"title": title, "description": description, "completed": completed}
            body |= {"priority": priority, "tags": tags}
            response = self.call(who, "POST", body=body)
            assert response.status_code == 201
            task = response.json
            assert task["id"] > self.last_id
            assert task["user_id"] == self.users[who]
            self.revisions[who] += 1
            assert task["revision"] == self.revisions[who]
            assert {name: task[name] for name in body} == body | {"title": title.strip()}
            self.last_id = task["id"]
            self.model[who][task["id"]] = task

        @rule(who=USERS, pick=PICK)
        def get(self, who, pick):
            task = self.pick(pick)
            response = self.call(who, "GET", f"/{task}")
            if task in self.model[who]:
                assert response.json == self.model[who][task]
            else:
                assert_problem(response, 404, "Task not found")

        @rule(
            who=USERS, pick=PICK, title=TITLES, rest=st.fixed_dictionaries({}, optional={"description": DESCRIPTIONS})
        )
        def put(self, who, pick, title, rest):
            task = self.pick(pick)
            response = self.call(who, "PUT", f"/{task}", {"title": title} | rest)
            self.changed(who, task, response, **({"title": title.strip(), "description": None} | rest))

        @rule(
            who=USERS,
            pick=PICK,
            body=st.fixed_dictionaries(
                {},
                optional={
                    "title": TITLES,
                    "description": DESCRIPTIONS,
                    "completed": st.booleans(),
                    "priority": PRIORITIES,
                    "tags": TAGS,
                },
            ).filter(bool),
        )
        def patch(self, who, pick, body):
            task = self.pick(pick)
            response = self.call(who, "PATCH", f"/{task}", body)
            if "title" in body:
                body = body | {"title": body["title"].strip()}
            self.changed(who, task, response, **body)

        @rule(who=USERS, pick=PICK, value=st.none() | st.booleans())
        def complete(self, who, pick, value):
            task = self.pick(pick)
            response = self.call(who, "PATCH", f"/{task}/complete", None if value is None else {"completed": value})
            known = self.model[who].get(task, {"completed": False})
            self.changed(who, task, response, completed=not known["completed"] if value is None else value)

        @rule(who=USERS, pick=PICK)
        def delete(self, who, pick):
            task = self.pick(pick)
            response = self.call(who, "DELETE", f"/{task}")
            if self.model[who].pop(task, None):
                self.revisions[who] += 1
                assert response.status_code == 204
            else:
                assert_problem(response, 404, "Task not found")

        @rule(who=USERS, other=USERS, pick=PICK, title=TITLES)
        def trespass(self, who, other, pick, title):
            if who == other:
                return
            for method, path in (("GET", ""), ("POST", ""), ("PUT", f"/{self.pick(pick)}")):
                url = f"/api/{self.users[other]}/tasks{path}"
                response = client.open(url, method=method, headers=self.headers[who], json={"title": title})
                assert_problem(response, 403, "User ID mismatch")

        @invariant()
        def lists_are_the_model(self):
            for who in range(3):
                assert self.call(who, "GET").json == list(self.model[who].values())

    run_state_machine_as_test(
        Users,
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
