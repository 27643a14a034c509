"""What every web face serves: routes as functions of a runtime and a request, whatever framework it came through."""
