"""Networks in processes of their own: the same numbers, and nothing left behind however either side ends.

Every test runs a program of its own, because a process may be forked only while it has no other threads.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import gc, multiprocessing, os, signal, threading, time
import numpy as np, torch
from settled_nets import settled_net
from samptag.core.config import config_from_name
from samptag.core.inference import Predictor
from samptag.core.processes import NetworkProcess, can_fork

CPU = torch.device("cpu")
CONFIG = config_from_name("samplecnn-3-6")

def net_and_segments(count):
    segments = np.random.default_rng(0).normal(0, 0.1, (count, CONFIG.input_length)).astype(np.float32)
    return settled_net(CONFIG, segments[:4]), segments

def doubled():
    return lambda segment: 2 * segment[:3]
"""


def run(program: str) -> str:
    """What the program writes; it must end well and say nothing on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_processes_give_the_numbers_of_threads():
    out = run("""
model, segments = net_and_segments(7)
forked = Predictor(model, device=CPU, threads=4, processes=3)
print(len(multiprocessing.active_children()), forked.batch_size)
threaded = Predictor(model, device=CPU, threads=2)
for _ in range(2):
    for ours, theirs in zip(forked(segments), threaded(segments)):
        print(np.array_equal(ours, theirs), ours.std() > 0)
""")
    assert out == "3 24\n" + "True True\n" * 4


@pytest.mark.parametrize("asked", ["threads=2", "threads=2, processes=1", "threads=1, processes=5"])
def test_one_process_or_none_is_no_new_process(asked: str):
    assert run(f"""
model, segments = net_and_segments(4)
Predictor(model, device=CPU, {asked})(segments)
print(len(multiprocessing.active_children()))
""") == "0\n"  # fmt: skip


def test_a_process_with_other_threads_is_not_forked():
    assert run("""
model, segments = net_and_segments(4)
done = threading.Event()
threading.Thread(target=done.wait).start()
print(can_fork(), Predictor(model, device=CPU, threads=2, processes=2)(segments)[0].shape)
print(len(multiprocessing.active_children()))
done.set()
""") == "False (4, 50)\n0\n"  # fmt: skip


def test_a_system_that_gives_no_more_processes_gets_threads():
    assert run("""
def fork_twice(fork=os.fork, begun=[]):
    begun.append(1)
    if len(begun) > 2:
        print(len(multiprocessing.active_children()))
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = fork_twice
model, segments = net_and_segments(4)
predictor = Predictor(model, device=CPU, threads=8, processes=8)
gc.collect()
print(predictor(segments)[0].shape, multiprocessing.active_children())
""") == "2\n(4, 50) []\n"  # fmt: skip


def test_a_worker_of_a_pool_gets_threads():
    assert run("""
model, segments = net_and_segments(4)
def work(_):
    return Predictor(model, device=CPU, threads=2, processes=2)(segments)[0].shape
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(work, [0]))
""") == "[(4, 50)]\n"  # fmt: skip


def test_the_processes_end_with_the_predictor():
    assert run("""
model, segments = net_and_segments(4)
first = Predictor(model, device=CPU, threads=2, processes=2)
its_own = multiprocessing.active_children()
second = Predictor(model, device=CPU, threads=3, processes=3)
first(segments)
del first
until = time.monotonic() + 20
while any(child.is_alive() for child in its_own) and time.monotonic() < until:
    gc.collect()
    time.sleep(0.02)
left = multiprocessing.active_children()
print(len(its_own), len(left), [child for child in left if child in its_own], second(segments)[0].shape)
""") == "2 3 [] (4, 50)\n"  # fmt: skip


def test_a_fork_of_the_program_cannot_spoil_the_scores():
    assert run("""
model, segments = net_and_segments(4)
predictor = Predictor(model, device=CPU, threads=2, processes=2)
copy = os.fork()
if copy == 0:
    try:
        predictor(segments)
    except ChildProcessError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(copy, 0)
print(np.array_equal(predictor(segments)[0], Predictor(model, device=CPU, threads=1)(segments)[0]))
""") == "a process of the net is gone: a call was interrupted, or this is a fork\nTrue\n"  # fmt: skip


def test_an_interrupted_call_leaves_no_answer_for_the_next():
    assert run("""
def slow():
    return lambda segment: (time.sleep(0.5), 2 * segment[:3])[1]
process = NetworkProcess(slow, input_length=5, embedding_size=3)
process(torch.ones(5))
signal.setitimer(signal.ITIMER_REAL, 0.1)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    process(torch.ones(5))
except KeyboardInterrupt:
    print("interrupted")
try:
    process(3 * torch.ones(5))
except ChildProcessError as error:
    print(error)
""") == "interrupted\na process of the net is gone: a call was interrupted, or this is a fork\n"  # fmt: skip


def test_errors_of_the_network_arrive_and_the_process_goes_on():
    assert run("""
tries = []
def make():
    tries.append(1)
    if len(tries) == 1:
        raise MemoryError("no room")
    return lambda segment: 2 * segment[:3]
process = NetworkProcess(make, input_length=5, embedding_size=3)
try:
    process(torch.ones(5))
except MemoryError as error:
    print(error)
    print("in make" in str(error.__cause__))
print(process(torch.ones(5)).tolist(), tries)
""") == "no room\nTrue\n[2.0, 2.0, 2.0] []\n"  # fmt: skip


def test_errors_that_cannot_be_sent_arrive_by_their_words():
    assert run("""
class Odd(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
def make():
    raise Odd("this", "that")
process = NetworkProcess(make, input_length=5, embedding_size=3)
for _ in range(2):
    try:
        process(torch.ones(5))
    except RuntimeError as error:
        print(error)
""") == "Odd('this and that')\n" * 2  # fmt: skip


def test_a_killed_process_is_an_error_that_says_so():
    assert run("""
process = NetworkProcess(doubled, input_length=5, embedding_size=3)
(child,) = multiprocessing.active_children()
os.kill(child.pid, signal.SIGKILL)
for _ in range(2):
    try:
        process(torch.ones(5))
    except ChildProcessError as error:
        print(error)
""") == "a process of the net ended with exit code -9\n" * 2  # fmt: skip


def test_ctrl_c_is_left_to_the_first_process():
    assert run("""
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
process = NetworkProcess(doubled, input_length=5, embedding_size=3)
(child,) = multiprocessing.active_children()
os.kill(child.pid, signal.SIGINT)
time.sleep(0.1)
print(process(torch.ones(5)).tolist())
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt:
    print("interrupted")
""") == "[2.0, 2.0, 2.0]\ninterrupted\n"  # fmt: skip


def test_a_killed_program_leaves_no_processes():
    pids = run("""
def ended(pid):
    # A process without a parent is a zombie until whoever adopted it asks.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True

told, tell = os.pipe()
program = os.fork()
if program == 0:
    kept = [NetworkProcess(doubled, input_length=5, embedding_size=3) for _ in range(3)]
    os.write(tell, " ".join(str(child.pid) for child in multiprocessing.active_children()).encode())
    time.sleep(60)
    os._exit(0)
pids = os.read(told, 1000).decode().split()
os.kill(program, signal.SIGKILL)
os.waitpid(program, 0)
until = time.monotonic() + 20
while time.monotonic() < until and not all(map(ended, pids)):
    time.sleep(0.02)
print(len(pids), all(map(ended, pids)))
""")
    assert pids == "3 True\n"
