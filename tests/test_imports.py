"""The direction of imports: each package imports from the layers below its own, and from no other."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From bottom to top. The packages of one layer do not import each other.
LAYERS = (
    ("config", "todo.context", "todo.extensions"),
    ("todo.telemetry",),
    ("todo.http",),
    ("todo.database", "todo.limits"),
    ("todo.auth",),
    ("todo.tasks", "todo.commands", "todo.health"),
    ("todo.calendar", "todo.demo", "todo.events", "todo.trash", "todo.users"),
    ("todo.assistants", "todo.batch", "todo.cli", "todo.importing"),
    ("todo.dialects", "todo.doctor"),
    ("todo.serving",),
    ("todo",),
    ("todo.__main__",),
)
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in [ROOT / "config.py", *sorted((ROOT / "todo").rglob("*.py"))]}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """Find every module of this project that a module imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            # `from todo import auth` imports a module, `from todo.auth import require_jwt` a name of one.
            full_names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in full_names]
        else:
            continue
        yield from (name for name in names if name in MODULES)


IMPORTS = {module: set(imported_modules(tree)) for module, tree in TREES.items()}


def package_of(module: str) -> str:
    """Return the name of the top two levels of a module."""
    return ".".join(module.split(".")[:2])


def test_layers_name_every_package_once():
    assert sorted(LAYER_OF) == sorted({package_of(module) for module in MODULES})
    assert len(LAYER_OF) == sum(map(len, LAYERS))


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_from_lower_layers_only(module):
    package = package_of(module)
    upward = {
        name
        for name in IMPORTS[module]
        if package_of(name) != package and LAYER_OF[package_of(name)] >= LAYER_OF[package]
    }

    assert upward == set()


def test_modules_import_each_other_in_no_circle():
    TopologicalSorter(IMPORTS).prepare()


@pytest.mark.parametrize("module", ["config", "todo.context", "todo.extensions"])
def test_module_of_the_lowest_layer_imports_nothing_of_the_application(module):
    assert IMPORTS[module] == set()


@pytest.mark.parametrize("module", [module for module in MODULES if module != "config"])
def test_module_other_than_config_reads_no_environment_variable(module):
    tree = TREES[module]
    # prometheus_client reads its folder from a variable alone, so the exporter has to set it.
    set_variables = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ENVIRONMENT
        # That of a request is another one (PEP 3333).
        and ast.unparse(node.value) not in ("request", "current_request()")
        and node not in set_variables
    ]
    reads += [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "os" and {a.name for a in node.names} & ENVIRONMENT
    ]

    assert reads == []
