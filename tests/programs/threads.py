# Shows: the Python interpreter with threads. `calls N`: 4 threads, N rounds each -> done rounds= bad=
import hashlib
import os
import sys
import threading

EXPECTED = hashlib.sha256(",".join(str(n * n) for n in range(50)).encode()).hexdigest()


def work(rounds, bad):
    for _ in range(rounds):
        text = ",".join(str(n * n) for n in range(50))
        if hashlib.sha256(text.encode()).hexdigest() != EXPECTED:
            bad.append(1)
        try:
            raise ValueError(text)
        except ValueError as error:
            if str(error) != text:
                bad.append(1)


print(f"ready pid={os.getpid()}", flush=True)
for line in sys.stdin:
    rounds = int(line.split()[1])
    bad = []
    threads = [threading.Thread(target=work, args=(rounds, bad)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"done rounds={4 * rounds} bad={len(bad)}", flush=True)
