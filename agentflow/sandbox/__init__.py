"""How does code that nobody has read run on a worker without doing harm?

In a process of its own, in namespaces of its own (user, network, mount, process, IPC, host name, control groups), under
another user than the worker, with no privilege at all, in a file system that holds the machine's programs (read only),
an empty `/tmp` and nothing else, behind a filter of system calls, and within limits of time, memory, processes, files
and output. It sees no network, none of the worker's environment, files or processes.

    run        in the worker: starts the launcher, reads what comes, and ends it all at the time limit
    launcher   a process between the worker and the sandbox: makes the namespaces, has the other user mapped, waits
    jail       the first process of the sandbox: builds the file system, watches memory and time, starts the code
    checks     tells, before the first line of the code runs, whether all of that really holds
    barrier    the filter of system calls
    kernel     the calls to Linux that Python's library lacks

Nothing is assumed: what `checks` cannot see to hold is a refusal, and the code does not run. `launcher`, `jail`,
`checks`, `barrier` and `kernel` run without site-packages and import Python's library alone.

What it does not keep out: a hole in the kernel; the use of processor time and memory within the limits; and guessing
at what the machine's processor leaks. Who must keep those out gives workers that run code a machine of their own.
"""
