"""Puts a fast tracepoint at an address, by gdb and gdbserver: gdb -batch -x gdb_probe.py PROGRAM

XOL_BENCH_PROBE in the environment is "PID ADDRESS count|event". Writes "armed" (or "error: ..." and ends); then, to each
line on its standard input, how many trace frames were made. An event collects the time and two arguments, a count nothing.
"""

import os
import re
import sys
import tempfile

import gdb

# Standard output is for the answers; what gdb says there of its own goes nowhere.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

BEGINNING = """
set pagination off
set confirm off
set non-stop on
set sysroot /
set debug-file-directory /nonexistent
set trace-buffer-size 67108864
set circular-trace-buffer on
"""


def run(command):
    return gdb.execute(command, to_string=True)


def arm(pid, address, kind):
    for command in BEGINNING.strip().splitlines():
        run(command)
    run(f"target remote | exec gdbserver --once --attach - {pid} 2>/dev/null")
    run(f"ftrace *{address}")
    if kind == "event":
        # From a file, since `actions` reads its lines where the command was read.
        with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
            script.write("actions\ncollect $trace_timestamp, $rdi, $rsi\nend\n")
            script.flush()
            run(f"source {script.name}")
    run("tstart")
    run("continue -a &")


def frames():
    """How many trace frames were made, be they in the (circular) buffer still or not."""
    status = run("tstatus")
    found = re.search(r"Collected (\d+) trace frames|of (\d+) created total", status)
    return (found[1] or found[2]) if found else f"error: {status}".replace("\n", " ")


def main():
    try:
        arm(*os.environ["XOL_BENCH_PROBE"].split())
    except gdb.error as error:
        print(f"error: {error}".replace("\n", " "), file=answers)
        return
    print("armed", file=answers)
    for _ in sys.stdin:
        print(frames(), file=answers)
    run("tstop")


main()
