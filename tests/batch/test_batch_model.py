"""Batches of several users against a model in memory, which runs each operation by itself."""

import copy
import hashlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from support import assert_problem, call_as, new_user

ABSENT = 2**62
KEYS = [f"key {number}" for number in range(6)]
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["a", " a ", "b", "c", "a", ""]),
        "description": st.sampled_from([None, "d"]),
        "completed": st.booleans(),
        "priority": st.sampled_from([None, "low", "LOW"]),
        "tags": st.sampled_from([[], ["Home"], ["Home", "HOME"]]),
    },
)
INITIAL = {"description": None, "completed": False, "priority": None, "tags": []}
SHOWN = ("id", "title", "revision", *INITIAL)


class Refused(Exception):
    """An operation that is refused, with its status."""


def stored(members):
    """Return the values that are stored for the members of a body, or refuse them."""
    values = dict(members)
    if "title" in values:
        values["title"] = values["title"].strip()
    if not values or values.get("title") == "":
        raise Refused(422)
    if values.get("priority"):
        values["priority"] = values["priority"].lower()
    if "tags" in values:
        values["tags"] = values["tags"][:1]
    return values


class Model:
    """The list of one user.

    Attributes:
        revision: The revision of the list.
        tasks: The tasks by id.
        trash: The tasks in the trash by id, each with the revision of its deletion.
        tombstones: The revisions of the deletions of which nothing else is left, by id.
        keys: The ids and the bodies of creations by key.

    """

    def __init__(self):
        self.revision = 0
        self.tasks = {}
        self.trash = {}
        self.tombstones = {}
        self.keys = {}

    def next(self):
        self.revision += 1
        return self.revision

    def apply(self, operation, new_id):
        """Return the result of an operation; a new task takes the id that the service gave it."""
        return getattr(self, operation["op"])(operation, new_id)

    def create(self, operation, new_id):
        values = INITIAL | stored(operation["task"])
        if (known := self.keys.get(operation["key"])) is not None:
            found, body = known
            if body != values:
                raise Refused(422)
            if found in self.tasks:
                return 201, {"task": self.tasks[found], "replayed": True}
            task, revision = self.trash[found]
            return 201, {"task": task, "replayed": True, "deleted": (found, revision)}
        self.keys[operation["key"]] = new_id, values
        self.tasks[new_id] = values | {"id": new_id, "revision": self.next()}
        return 201, {"task": self.tasks[new_id]}

    def update(self, operation, _):
        values = stored(operation["task"])
        if (task := self.tasks.get(operation["id"])) is None:
            raise Refused(404)
        if task | values != task:
            self.check(operation, task)
            task = self.tasks[task["id"]] = task | values | {"revision": self.next()}
        return 200, {"task": task}

    def delete(self, operation, _):
        found = operation["id"]
        if found in self.tasks:
            self.check(operation, self.tasks[found])
            self.trash[found] = self.tasks.pop(found), self.next()
            return 204, {"deleted": (found, self.revision)}
        if found in self.trash:
            return 204, {"deleted": (found, self.trash[found][1]), "already": True}
        if found in self.tombstones:
            return 204, {"deleted": (found, self.tombstones[found]), "already": True}
        raise Refused(404)

    def restore(self, operation, _):
        found = operation["id"]
        if found in self.trash:
            task, _ = self.trash.pop(found)
            self.tasks[found] = task | {"revision": self.next()}
        if found not in self.tasks:
            raise Refused(404)
        return 200, {"task": self.tasks[found]}

    def discard(self, found):
        """Forget a task in the trash, and with it its key."""
        _, self.tombstones[found] = self.trash.pop(found)
        self.keys = {key: known for key, known in self.keys.items() if known[0] != found}

    @staticmethod
    def check(operation, task):
        wanted = operation.get("if_revision", "*")
        if wanted != "*" and task["revision"] not in (wanted if isinstance(wanted, list) else [wanted]):
            raise Refused(412)


def shown(task):
    """Return a task as far as the model knows it."""
    return {name: task[name] for name in SHOWN}


def as_modelled(result):
    """Return a result as far as the model knows it."""
    status, members = result["status"], {name: value for name, value in result.items() if name != "status"}
    if "task" in members:
        members["task"] = shown(members["task"])
    if "deleted" in members:
        members["deleted"] = members["deleted"]["id"], members["deleted"]["revision"]
    if "problem" in members:
        problem = members.pop("problem")
        assert problem["status"] == status
        assert ("current" in problem) == (status == 412)
    return status, members


class Person:
    """A user, what the service should hold of them, and a copy that results and pages of the feed maintain."""

    def __init__(self, app):
        self.call = call_as(app.test_client(), new_user())
        self.model = Model()
        self.copy = {}
        self.copied = 0
        self.since = None

    def send(self, operations, *, atomic=False):
        """Send a batch, and compare its results with those of the model."""
        answer = self.call("POST", "/tasks/batch", operations=operations, atomic=atomic)
        results = answer.json["results"] if answer.status_code == 200 else [{}] * len(operations)
        after = copy.deepcopy(self.model)
        expected = []
        for operation, result in zip(operations, results, strict=True):
            try:
                expected.append(after.apply(operation, result.get("task", {}).get("id")))
            except Refused as refused:
                expected.append((refused.args[0], {}))
        refusals = [status for status, _ in expected if status >= 400]
        if atomic and refusals:
            # Invalid values are found before anything else.
            assert answer.status_code in {refusals[0], 422}, answer.json
            return
        assert answer.status_code == 200, answer.json
        assert [as_modelled(result) for result in results] == expected
        assert (answer.json["before"], answer.json["revision"]) == (self.model.revision, after.revision)
        self.model = after
        if answer.json["before"] == self.copied:
            self.adopt(answer.json)

    def adopt(self, answer):
        """Apply the results of a batch to a copy that was at `before`."""
        for result in answer["results"]:
            if "deleted" in result:
                self.copy.pop(result["deleted"]["id"], None)
            elif "task" in result:
                self.copy[result["task"]["id"]] = result["task"]
        self.since, self.copied = answer["next"], answer["revision"]

    def follow(self):
        """Bring the copy up to date by the feed, and compare it with the checksum."""
        page = self.call("GET", "/tasks/changes", query={"since": self.since} if self.since else {}).json
        assert not page["has_more"]
        for change in sorted(page["tasks"] + page["deleted"], key=lambda change: change["revision"]):
            if "deleted_at" in change:
                self.copy.pop(change["id"], None)
            else:
                self.copy[change["id"]] = change
        self.since, self.copied = page["next"], self.model.revision
        lines = [
            f"{task['id']}:{task['revision']}\n" for task in sorted(self.copy.values(), key=lambda t: t["revision"])
        ]
        proof = len(lines), hashlib.sha256("".join(lines).encode()).hexdigest()
        assert (page["count"], page["checksum"]) == proof

    def state(self):
        """Return all that the user can see."""
        listed, trash = self.call("GET", "/tasks"), self.call("GET", "/trash")
        return listed.json, listed.headers["ETag"], trash.json, self.call("GET", "/tasks/changes").json

    def check(self):
        """Compare the list, the trash and the copy with the model."""
        tasks, etag, trash, _ = self.state()
        assert [shown(task) for task in tasks] == [self.model.tasks[found] for found in sorted(self.model.tasks)]
        assert int(etag[1:].partition("-")[0]) == self.model.revision
        by_deletion = sorted(self.model.trash.values(), key=lambda entry: -entry[1])
        assert [shown(task) for task in trash] == [task for task, _ in by_deletion]
        self.follow()
        assert sorted(self.copy.values(), key=lambda task: task["id"]) == tasks


class Batches(RuleBasedStateMachine):
    """Three users who send batches and single requests in turn."""

    def __init__(self, app):
        super().__init__()
        self.people = [Person(app) for _ in range(3)]
        self.person = self.people[0]
        for person in self.people:
            person.send([{"op": "create", "key": key, "task": {"title": "a"}} for key in KEYS[:4]])
            first, second = list(person.model.tasks)[:2]
            person.send([{"op": "delete", "id": first}, {"op": "update", "id": second, "task": {"title": "b"}}])

    def draw_id(self, data):
        """Draw a task of anybody, in any state, or of nobody."""
        ids = [
            [*person.model.tasks, *person.model.trash, *person.model.tombstones]
            for person in (*[self.person] * 6, self.people[0])
        ]
        return data.draw(st.sampled_from([*ids, [ABSENT]]).flatmap(st.sampled_from))

    def draw_queue(self, data):
        """Draw operations that address each task and use each key once."""
        queue, used = [], set()
        for _ in range(data.draw(st.sampled_from([8, 5, 3, 2, 1]))):
            op = data.draw(st.sampled_from(["create", "create", "update", "update", "delete", "restore"]))
            if op == "create":
                name = data.draw(st.sampled_from(KEYS))
                operation = {"op": op, "key": name, "task": {"title": "a"} | data.draw(st.just({}) | MEMBERS)}
            else:
                name = self.draw_id(data)
                operation = {"op": op, "id": name}
                if op == "update":
                    operation["task"] = data.draw(MEMBERS)
                if op != "restore" and (wanted := self.draw_revision(data, name)) is not None:
                    operation["if_revision"] = wanted
            if name not in used:
                used.add(name)
                queue.append(operation)
        return queue

    def draw_revision(self, data, found):
        current = self.person.model.tasks.get(found, {"revision": 1})["revision"]
        return data.draw(st.sampled_from([None, None, current, [current, 99], current + 1, [1], "*"]))

    @rule(data=st.data(), number=st.integers(0, 2))
    def sends_a_batch(self, data, number):
        self.person = self.people[number]
        queue = self.draw_queue(data)
        way = data.draw(st.sampled_from(["once", "twice", "halves", "atomic", "atomic twice"]))
        if way == "halves":
            half = len(queue) // 2
            for part in filter(None, (queue[:half], queue[half:])):
                self.person.send(part)
            return
        self.person.send(queue, atomic="atomic" in way)
        if "twice" in way:
            before = self.person.state()
            self.person.send(queue, atomic="atomic" in way)
            assert self.person.state() == before

    @rule(data=st.data(), number=st.integers(0, 2))
    def sends_a_single_request(self, data, number):
        self.person = self.people[number]
        model, found = self.person.model, self.draw_id(data)
        match data.draw(st.sampled_from(["PATCH", "DELETE", "restore", "discard"])):
            case "PATCH" if found in model.tasks:
                self.person.call("PATCH", f"/tasks/{found}", title="single")
                model.update({"id": found, "task": {"title": "single"}}, None)
            case "DELETE" if found in model.tasks:
                self.person.call("DELETE", f"/tasks/{found}")
                model.delete({"id": found}, None)
            case "restore" if found in model.trash:
                self.person.call("POST", f"/trash/{found}/restore")
                model.restore({"id": found}, None)
            case "discard" if found in model.trash:
                self.person.call("DELETE", f"/trash/{found}")
                model.discard(found)
            case _:
                assert_problem(self.person.call("DELETE", f"/tasks/{ABSENT}"), 404)

    @rule(number=st.integers(0, 2))
    def follows_the_changes(self, number):
        self.people[number].follow()

    @invariant()
    def service_holds_what_the_model_holds(self):
        self.person.check()

    def teardown(self):
        for person in self.people:
            person.check()


EXAMPLES = 150 if settings.get_current_profile_name() == "thorough" else 40


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_batches_in_any_order_do_what_the_model_does(app):
    run_state_machine_as_test(
        lambda: Batches(app),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
