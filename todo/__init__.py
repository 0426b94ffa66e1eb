"""A task backend: tasks per user over HTTP, protected by JWT bearer tokens, stored in PostgreSQL."""

from importlib import import_module
from importlib.util import find_spec

from flask import Flask

from config import ROOT, Config
from todo import (
    assistants,
    auth,
    batch,
    calendar,
    cli,
    commands,
    dialects,
    doctor,
    events,
    health,
    importing,
    limits,
    tasks,
    trash,
    users,
)
from todo.database import engine, migrate
from todo.extensions import ORJSONProvider, api, db, init_cors
from todo.http import etags, hardening, openapi, pages, problems, routing
from todo.http.application import Application
from todo.serving import overload
from todo.telemetry import logs, requests


def create_app(config: Config | None = None) -> Flask:
    """Create the application.

    Args:
        config: The settings; by default those of the environment.

    Raises:
        InvalidSettings: The settings are invalid.
        ClosedOutput: A command has no stdout.

    """
    # Before anything opens a file. All commands of `flask` pass here, those of the libraries too.
    if logs.is_command():
        commands.require_stdout()
    app = Application(__name__, instance_path=str(ROOT / "instance"), static_folder=None)
    app.json = ORJSONProvider(app)
    config = auth.with_secret(config or Config.from_environment(), app.instance_path)
    app.extensions["config"] = config
    logs.configure(config)

    # First of the hooks: a record begins before the others run and, as hooks after a request run in reverse, ends last.
    requests.init_app(app, config)
    hardening.init_app(app, config)
    # Before db, which builds the engine from these settings; the engine's listeners need the engine.
    engine.configure(app, config)
    db.init_app(app)
    engine.init_app(app, config)
    migrate.init_app(app, before_downgrade=cli.before_downgrade, others=(cli.restored, cli.distribute))
    init_cors(app, config.cors_origins)
    auth.init_app(app, config)
    limits.init_app(app, config)
    overload.init_app(app)
    tasks.init_app(app, config)
    users.init_app(app, config)
    events.init_app(app, config)

    # Before the routes, which look their converters up as they are added.
    routing.init_app(app)
    # Before the API's blueprints, which add their operations to the document and refer to these components by name.
    openapi.init_app(app)
    openapi.register_components(links=tasks.LINKS, schemas=tasks.COMPONENTS)
    api.register_blueprint(tasks.bp, parameters=[openapi.USER_PARAMETER])
    api.register_blueprint(events.bp, parameters=[openapi.USER_PARAMETER])
    api.register_blueprint(batch.bp, parameters=[openapi.USER_PARAMETER])
    api.register_blueprint(trash.bp, parameters=[openapi.USER_PARAMETER])
    api.register_blueprint(users.bp, parameters=[openapi.USER_PARAMETER])
    api.register_blueprint(importing.bp, parameters=[openapi.USER_PARAMETER])
    api.register_blueprint(calendar.bp, parameters=[openapi.USER_PARAMETER])
    api.register_blueprint(calendar.feeds)
    api.register_blueprint(health.bp)
    assistants.init_app(app, config)
    app.register_blueprint(pages.bp)
    # Images come without it.
    if not config.production and find_spec("todo.demo"):
        app.register_blueprint(import_module("todo.demo").bp)
    app.register_blueprint(cli.bp)
    app.register_blueprint(trash.commands)
    app.register_blueprint(users.commands)
    app.register_blueprint(doctor.bp)
    # After the routes, which it adapts, and before the preconditions, whose problems it adapts too.
    dialects.init_app(app, config)
    # After all others that add headers to responses, so that the headers of a 304 or a 412 are added to it.
    etags.init_app(app)
    # Last, to replace the error handler that flask-smorest registers with openapi.
    problems.init_app(app)
    return app
