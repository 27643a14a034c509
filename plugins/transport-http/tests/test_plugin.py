from __future__ import annotations

import subprocess
import sys


def test_plugin_module_imports_nothing_heavy() -> None:
    code = (
        "import sys, go_services_transport_http.plugin as p; p.gs_transports();"
        "print(sorted({'aiohttp', 'yarl', 'asyncio', 'ssl', 'go_services_transport_http.settings'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
