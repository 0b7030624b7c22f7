"""Runs untrusted code on a worker without letting it do harm.

The code runs in its own process and its own namespaces (user, network, mount, process, IPC, host name, control groups),
as another user than the worker and without any privilege. Its file system holds the machine's programs (read-only) and
an empty `/tmp`, nothing else. System calls are filtered; time, memory, processes, files and output are limited. It has
no network and sees none of the worker's environment, files or processes.

    run        in the worker: starts the launcher, reads the output, and ends everything at the time limit
    launcher   the process between the worker and the sandbox: makes the namespaces, maps the other user, waits
    jail       the first process of the sandbox: builds the file system, watches memory and time, starts the code
    checks     verifies from within, before the first line of the code runs, that the sandbox holds
    barrier    the filter of system calls
    kernel     the Linux calls that Python's library lacks

Nothing is assumed: if `checks` cannot verify something, the code is refused and does not run. `launcher`, `jail`,
`checks`, `barrier` and `kernel` run without site-packages and must import Python's library only.

The sandbox does not protect against holes in the kernel, against the use of processor time and memory within the
limits, or against side channels of the processor. Operators who need that give workers that run code their own machine.
"""
