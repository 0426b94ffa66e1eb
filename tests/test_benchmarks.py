"""The questions that the benchmarks ask can be asked, and the other forms of a question have the same answer."""

import pytest
from support import new_user

from benchmarks.forms import TAGS_NAME, forms_of, questions
from benchmarks.shapes import PAGE, Subject, shapes
from todo.database import statements
from todo.extensions import db
from todo.tasks.seeds import planting

TASKS = 240


@pytest.fixture(scope="module")
def planter(app):
    """Give a user with so many example tasks."""
    user = new_user()
    with app.app_context(), planting(user, TASKS) as (_, batches):
        assert sum(batches) == TASKS
    return user


def test_shapes_are_questions_that_can_be_asked(app, planter):
    with app.app_context():
        found = {shape.name: statements.read(shape.statement, shape.parameters) for shape in shapes(Subject(planter))}

    assert len(found["first page, limit 50"]) == PAGE + 1
    assert len(found["first page, limit 1000"]) == TASKS
    assert len(found["get one"]) == 1


@pytest.mark.parametrize("question", [*questions(), TAGS_NAME])
def test_forms_of_a_question_have_one_answer(app, planter, question):
    with app.app_context(), db.engine.connect() as connection:
        answers = {
            form: [tuple(row[:3]) for row in connection.execute(sql, {"caller": planter})]
            for form, sql in forms_of(question, planter).items()
        }

    first, *others = answers.values()
    assert others
    assert all(other == first for other in others), answers
