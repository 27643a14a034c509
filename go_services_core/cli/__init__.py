"""The ``go-services`` command: thin commands over the runtime, each imported when it is called."""
