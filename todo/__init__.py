"""The task backend: per-user tasks over HTTP, guarded by JWT, kept in PostgreSQL."""

from flask import Flask

from config import ROOT, Config
from todo import auth, cli, doctor, health, limits, tasks, trash, users
from todo.database import engine, migrate
from todo.extensions import ORJSONProvider, api, cors, db, exactly, vary_by_origin
from todo.http import hardening, openapi, pages, problems, routing
from todo.serving import overload
from todo.telemetry import logs, requests


def create_app(config: Config | None = None) -> Flask:
    """Build the application.

    Args:
        config: The settings; by default those of the environment.

    Raises:
        InvalidSettings: the settings are not fit to start with.

    """
    app = Flask(__name__, instance_path=str(ROOT / "instance"), static_folder=None)
    app.json = ORJSONProvider(app)
    routing.init_app(app)

    config = auth.with_secret(config or Config.from_environment(), app.instance_path)
    app.extensions["config"] = config
    logs.configure(config)
    # First, because what is done last to an answer is what is asked for first.
    requests.init_app(app, config)
    hardening.init_app(app, config)

    engine.configure(app, config)
    db.init_app(app)
    engine.init_app(app)
    migrate.init_app(app)
    cors.init_app(app, origins=exactly(config.cors_origins))
    app.after_request(vary_by_origin)
    auth.init_app(app, config)
    limits.init_app(app, config)
    overload.init_app(app)

    openapi.init_app(app)
    openapi.register_links(tasks.LINKS)
    api.register_blueprint(tasks.bp, parameters=[openapi.USER])
    api.register_blueprint(trash.bp, parameters=[openapi.USER])
    api.register_blueprint(users.bp, parameters=[openapi.USER])
    api.register_blueprint(health.bp)
    app.register_blueprint(pages.bp)
    app.register_blueprint(cli.bp)
    app.register_blueprint(trash.commands)
    app.register_blueprint(users.commands)
    app.register_blueprint(doctor.bp)
    # Last, because the documentation brings an error handler of its own.
    problems.init_app(app)
    return app
