"""Django with Django Ninja."""
