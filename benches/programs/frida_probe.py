"""Probes a function by Frida, with a callback in C: python3 frida_probe.py PID ADDRESS count|event

Writes "armed" (or "error: ..." and ends); then, to each line on its standard input, how many hits the callback counted.
At the end of its input it takes the probe out. TMPDIR must be a folder of its own.
"""

import glob
import os
import signal
import socket
import struct
import sys

import frida

SCRIPT = r"""
const counter = Memory.alloc(8);
// Nobody reads it: what a record costs is asked, and a reader is elsewhere.
const ring = Memory.alloc(32768 * 80);
const callbacks = new CModule(`
#include <gum/guminterceptor.h>

typedef struct { guint64 sequence, time, probe, thread, arguments[6]; } Record;

extern volatile guint64 counter;
extern Record ring[32768];

void count(GumInvocationContext *context)
{
    counter++;
}

void event(GumInvocationContext *context)
{
    guint64 low, high, sequence = counter++;
    Record *record = &ring[sequence & 32767];
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    record->sequence = sequence;
    record->time = high << 32 | low;
    record->probe = 1;
    record->thread = gum_invocation_context_get_thread_id(context);
    record->arguments[0] = context->cpu_context->rdi;
    record->arguments[1] = context->cpu_context->rsi;
    record->arguments[2] = context->cpu_context->rdx;
    record->arguments[3] = context->cpu_context->rcx;
    record->arguments[4] = context->cpu_context->r8;
    record->arguments[5] = context->cpu_context->r9;
}
`, { counter, ring });

rpc.exports = {
    arm(address, callback) {
        // A function alone, not { onEnter }: it is called at this instruction, and nothing at the return.
        Interceptor.attach(ptr(address), callbacks[callback]);
        Interceptor.flush();
    },
    hits() {
        return counter.readU64().toNumber();
    },
    disarm() {
        Interceptor.detachAll();
    },
};
"""


def arm(pid, address, callback):
    session = frida.attach(int(pid))
    script = session.create_script(SCRIPT)
    script.load()
    script.exports_sync.arm(address, callback)
    return session, script.exports_sync


def main():
    try:
        session, probe = arm(*sys.argv[1:])
    except Exception as error:  # whatever it is, it is the reason for a row without figures
        print(f"error: {error}".replace("\n", " "), flush=True)
        return
    print("armed", flush=True)
    for _ in sys.stdin:
        print(probe.hits(), flush=True)
    probe.disarm()
    session.detach()


def end_daemon():
    """Ends what Frida started to look for telephones and leaves behind: whoever listens in our folder."""
    for path in glob.glob(os.path.join(os.environ["TMPDIR"], "idun-*", "control")):
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(path)
                credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, _, _ = struct.unpack("3i", credentials)
            os.kill(pid, signal.SIGTERM)
        except OSError:
            pass  # it has ended


try:
    main()
finally:
    frida.shutdown()
    end_daemon()
