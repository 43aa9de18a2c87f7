"""What `tools/sanitize tests` leaves out, and why; conftest.py skips it where the kernels are built with sanitizers."""

COMMANDS = "starts a process for each case, which takes seconds to load; no kernel that other tests do not run"
MEMORY = "limits the address space, of which AddressSanitizer takes terabytes at its start"
TIME = "measures time, and the sanitizers take several times as long"

UNSANITIZED = {
    "test_cli.py": COMMANDS,
    "test_cli_options.py": COMMANDS,
    "test_clusters.py": COMMANDS,
    "test_sources_cli.py": COMMANDS,
    "test_typing.py": COMMANDS,
    "test_html.py": "starts a browser, which does not run with AddressSanitizer's library in it",
    "test_damage.py": MEMORY,
    "test_faults.py::test_no_memory": MEMORY,
    "test_faults.py::test_no_memory_on_the_command_line": MEMORY,
    "test_processes.py::test_no_memory_for_the_threads": MEMORY,
    "test_interrupts.py::test_ctrl_c_in_every_function": TIME,
    "test_guard_pages.py::test_a_read_past_the_end_is_seen": "AddressSanitizer reports the fault and exits",
}


def why_not(file: str, test: str) -> str | None:
    """The reason to leave a test out, if there is one."""
    return UNSANITIZED.get(file) or UNSANITIZED.get(f"{file}::{test}")
