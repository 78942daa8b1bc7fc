"""What student code may try when a class is graded. Each is the source of a cell.

An attack that gets through calls `escaped(...)`, or stays visible to the test in some other way. `{outside}` is a folder
that holds a file `secret.txt`; `{port}` is a TCP and UDP port, `{sock}` a unix socket, where the test listens.
"""

START = """
import os, sys, signal, socket, threading, time, ctypes, gc, json, struct
got_out = []
def escaped(what):
    got_out.append(what)
    raise SystemError("escaped: " + str(what))
def denied(act):
    try:
        value = act()
    except SystemError:
        raise
    except BaseException:
        return
    escaped(value)
"""

# Each takes its own process along or makes it useless: cell, and what the teacher is told.
DEADLY = {
    "endless loop": ("while True: pass", "ran for more than"),
    "loop inside C": ("sum(iter(int, 1))", "ran for more than"),
    "regular expression": ("import re; re.match('(a+)+$', 'a' * 60 + 'b')", "ran for more than"),
    "sleep": ("time.sleep(1000)", "did nothing for"),
    "lock": ("lock = threading.Lock(); lock.acquire(); lock.acquire()", "did nothing for"),
    "deaf and asleep": (
        "for s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n    signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "ran for more than",
    ),
    "os._exit": ("os._exit(0)", "ended the program"),
    "abort": ("os.abort()", "crashed its process"),
    "segmentation fault": ("ctypes.string_at(0)", "crashed its process"),
    "deep recursion": ("sys.setrecursionlimit(10**8)\ndef f(): return f()\nf()", ""),
    "closed pipes": ("os.closerange(3, 1000)", "ended the program"),
    "garbage in the channel": ("for fd in range(3, 200):\n    try: os.write(fd, b'x' * 1000)\n    except OSError: pass", "returned more than"),
    "a message too long": (
        "for fd in range(3, 200):\n    try: os.write(fd, struct.pack('<Q', 1 << 60))\n    except OSError: pass", "returned more than",
    ),
    "byte after byte": (
        "for fd in range(3, 200):\n    try: os.write(fd, struct.pack('<Q', 1 << 20))\n    except OSError: pass\n"
        "while True:\n    for fd in range(100, 110):\n        try: os.write(fd, b'x')\n        except OSError: pass",
        "",
    ),
    "a flood of messages": (
        "m = sys.modules['labcheck.grading.pipes']; w = sys.modules['labcheck.wire']\n"
        "while True:\n    for fd in range(100, 110):\n        try: m.send(fd, w.dumps({'failed': 1}))\n        except Exception: pass",
        "the channel of the grader",
    ),
}  # fmt: skip

# These come to nothing, and the rest of the notebook goes on.
VAIN = {
    "sys.exit": "sys.exit()",
    "exit": "exit()",
    "memory": "x = [bytearray(10**9) for _ in range(100)]",
    "memory in torch": "import torch; x = [torch.ones(10**9) for _ in range(100)]",
    "recursion": "def f(): return f()\nf()",
    "print without end": "while True: print('x' * 10_000)",
    "writes to the terminal": "for _ in range(2000):\n    os.write(1, b'loud' * 5000); os.write(2, b'loud' * 5000)",
    "fork": "denied(os.fork)",
    "processes": (
        "import subprocess, multiprocessing\n"
        "denied(lambda: subprocess.run(['true']))\n"
        "denied(lambda: os.posix_spawn('/bin/true', ['true'], {{}}))\n"
        "denied(lambda: os.execv('/bin/true', ['true']))\n"
        "denied(lambda: multiprocessing.get_context('fork').Process(target=print).start())"
    ),
    "threads without end": "def wait(): threading.Event().wait(3)\nfor _ in range(5000): threading.Thread(target=wait, daemon=True).start()",
    "kill": (
        "for pid in (os.getppid(), 1, -1, 0, os.getpgrp()):\n"
        "    if pid != os.getpid():\n        denied(lambda: os.kill(pid, 9) if pid else os.killpg(0, 9))"
    ),
    "stop": (
        "denied(lambda: signal.raise_signal(signal.SIGSTOP))\ndenied(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP))"
    ),
    "signals by the back door": (
        "import fcntl\n"
        "for fd in range(100, 104):\n"
        "    denied(lambda: fcntl.fcntl(fd, fcntl.F_SETOWN, os.getppid()))\n    denied(lambda: fcntl.fcntl(fd, fcntl.F_SETSIG, 9))"
    ),
    "read outside": (
        "denied(lambda: open('{outside}/secret.txt').read())\ndenied(lambda: os.listdir('{outside}'))\n"
        "denied(lambda: os.open('{outside}', os.O_PATH | os.O_DIRECTORY) and open('/proc/self/cwd').read())"
    ),
    "write outside": (
        "denied(lambda: open('{outside}/new.txt', 'w'))\ndenied(lambda: open('{outside}/secret.txt', 'a'))\n"
        "denied(lambda: os.mkdir('{outside}/new'))\ndenied(lambda: os.symlink('/etc', '{outside}/link'))"
    ),
    "delete": (
        "denied(lambda: os.unlink('{outside}/secret.txt'))\ndenied(lambda: os.rename('{outside}/secret.txt', '{outside}/x'))\n"
        "denied(lambda: os.truncate('{outside}/secret.txt', 0))\nimport shutil; shutil.rmtree('{outside}', ignore_errors=True)"
    ),
    "change": (
        "denied(lambda: os.chmod('{outside}/secret.txt', 0o777))\ndenied(lambda: os.utime('{outside}/secret.txt'))\n"
        "denied(lambda: os.chown('{outside}/secret.txt', 1, 1))\ndenied(lambda: os.setxattr('{outside}/secret.txt', 'user.x', b'1'))"
    ),
    "fill the disk": "import tempfile\ndenied(lambda: tempfile.NamedTemporaryFile().write(b'x'))\ndenied(lambda: open('/dev/shm/x', 'wb').write(b'x'))",
    "memory files": "denied(lambda: os.memfd_create('x'))",
    "the environment of the parent": (
        "denied(lambda: open(f'/proc/{{os.getppid()}}/environ', 'rb').read())\ndenied(lambda: open('/proc/self/environ').read())\n"
        "denied(lambda: open('/proc/self/mem', 'rb').read(1))\ndenied(lambda: os.listdir('/proc'))\n"
        "if 'LABCHECK_SECRET' in os.environ: escaped('environment')"
    ),
    "password file": "denied(lambda: open('/etc/passwd').read())\ndenied(lambda: os.listdir(os.path.expanduser('~')))",
    "TCP": "denied(lambda: socket.create_connection(('127.0.0.1', {port}), 1))",
    "UDP": "denied(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'leak', ('127.0.0.1', {port})))",
    "unix socket": "def go():\n    s = socket.socket(socket.AF_UNIX); s.connect('{sock}'); s.send(b'leak')\ndenied(go)",
    "socket pair": "denied(socket.socketpair)",
    "download": "import urllib.request\ndenied(lambda: urllib.request.urlopen('http://127.0.0.1:{port}', timeout=1))",
    "system calls": (
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for name, number in dict(ptrace=101, process_vm_readv=310, setsid=112, unshare=272, mount=165, keyctl=250, bpf=321,\n"
        "                         io_uring_setup=425, pidfd_open=434, pidfd_getfd=438, perf_event_open=298, userfaultfd=323).items():\n"
        "    if os.uname().machine == 'x86_64' and libc.syscall(number, 0, 0, 0, 0, 0) != -1: escaped(name)"
    ),
    "larger limits": (
        "import resource\nfor what in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):\n"
        "    denied(lambda: resource.setrlimit(what, (resource.RLIM_INFINITY,) * 2))"
    ),
    "references": (
        "for name in ('labcheck.questions', 'labcheck.questions.lab03', 'labcheck.judging'):\n"
        "    sys.modules.pop('labcheck', None)\n"
        "    denied(lambda: __import__(name).questions.get)\n"
        "import pathlib, torch\n"
        "denied(lambda: [p.read_text() for p in pathlib.Path('{root}').rglob('*.py')][0])\n"
        "for module in list(sys.modules):\n    if module.startswith(('labcheck.questions', 'labcheck.judging')): escaped(module)\n"
        "for thing in gc.get_objects():\n    if type(thing).__name__ in ('Question', 'Mistake', 'Verdict'): escaped(thing)"
    ),
    "other submissions": "denied(lambda: open('{outside}/../class/a.ipynb').read())\ndenied(lambda: os.listdir('{outside}/..'))",
    "threads that stay": "def stay():\n    while True: time.sleep(0.01)\nthreading.Thread(target=stay, daemon=False).start()",
    "at the end": "import atexit; atexit.register(lambda: open('{outside}/late.txt', 'w'))",
    "signals": "signal.setitimer(signal.ITIMER_REAL, 100)\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU): signal.signal(s, signal.SIG_IGN)",
}  # fmt: skip

# Written instead of answers. None computes anything; none may earn a point.
FORGED = {
    "always equal": (
        "import torch\nclass Yes(float):\n"
        "    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    def __lt__(self, other): return True\n    __gt__ = __le__ = __ge__ = __lt__\n"
        "    def __sub__(self, other): return 0.0\n    __rsub__ = __sub__\n    def __abs__(self): return 0.0\n"
        "    def __hash__(self): return 0\n    def __len__(self): return 1\n    def __repr__(self): return 'right'\n"
        "def dphi(*a): return Yes()\ndef chi1(*a): return Yes()\ndef saturated_fraction(*a, **k): return Yes()"
    ),
    "a tensor of its own kind": (
        "import torch\nclass Yes(torch.Tensor):\n"
        "    @classmethod\n    def __torch_function__(cls, func, types, args=(), kwargs=None):\n        return True\n"
        "def dphi(name, z): return z.as_subclass(Yes)\ndef chi1(*a): return torch.ones(()).as_subclass(Yes)\n"
        "saturated_fraction = chi1"
    ),
    "builtins": (
        "import builtins, torch\n"
        "builtins.abs = builtins.float = builtins.max = lambda *a, **k: 0.0\nbuiltins.all = builtins.any = builtins.isinstance = lambda *a: True\n"
        "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True\ntorch.Tensor.__eq__ = torch.Tensor.allclose = lambda *a, **k: True\n"
        "def dphi(*a): return 0\ndef chi1(*a): return 0\ndef saturated_fraction(*a, **k): return 0"
    ),
    "the checker": (
        "import sys\n"
        "for name, module in list(sys.modules.items()):\n"
        "    if name.startswith('labcheck'):\n"
        "        for key, value in list(vars(module).items()):\n"
        "            if callable(value) and key in ('attempt', 'guard', 'plain', 'find', 'accepts', 'is_blank', 'borrowed'):\n"
        "                setattr(module, key, lambda *a, **k: {'outcome': 'returned', 'value': True, 'changed': False, 'type': 'float'})\n"
        "def dphi(*a): return 0\nchi1 = saturated_fraction = dphi"
    ),
    "own messages": (
        "import os, sys\np, w = sys.modules['labcheck.grading.pipes'], sys.modules['labcheck.wire']\n"
        "full = {'points': 99, 'max_points': 99, 'status': 'passed', 'verdict': 'passed', 'evidence': {'cases': [], 'passed': True}}\n"
        "def say(data):\n"
        "    for fd in range(100, 110):\n        try: p.send(fd, w.dumps(data))\n        except Exception: pass\n"
        "say({'failed': {}})\nfor _ in range(3): say(full)\n"
    ),
    "evidence of nothing": (
        "import os, sys\np, w = sys.modules['labcheck.grading.pipes'], sys.modules['labcheck.wire']\n"
        "c = sys.modules['labcheck.grading.child']\n"
        "def dphi(*a): return 0\nchi1 = saturated_fraction = dphi\n"
        "c.probes.find = lambda name: lambda function, inputs: {'cases': [{'outcome': 'returned', 'type': 'Tensor', 'changed': False,\n"
        "    'value': case} for case in inputs['cases']]}"
    ),
    "the inputs themselves": (
        "import sys\nc = sys.modules['labcheck.grading.child']\n"
        "def dphi(name, z): return z\ndef chi1(f, s, q): return s * s\ndef saturated_fraction(a, name, tol=0.05): return float(tol)"
    ),
    "a reference of the checker's": (
        "import gc, sys, types\n"
        "def look(name):\n"
        "    for f in gc.get_objects():\n"
        "        if isinstance(f, types.FunctionType) and f.__name__ == name and 'labcheck' in str(f.__module__): return f\n"
        "    raise LookupError\n"
        "def dphi(*a): return look('dphi')(*a)\ndef chi1(*a): return look('chi1')(*a)\n"
        "def saturated_fraction(*a): return look('saturated_fraction')(*a)"
    ),
    "the course's package": (
        "from signalprop import activations, theory\n"
        "def dphi(name, z): return activations.get(name).dphi(z)\n"
        "def chi1(dphi, sigma_w, q): return theory.chi1(dphi, sigma_w, q)\ndef saturated_fraction(a, name, tol=0.05): return theory.share(a)"
    ),
    "results of a check": (
        "from labcheck import check\nimport labcheck\nlabcheck.check = check = lambda *a, **k: print('✓ passed: 7 of 7 points')\n"
        "check('lab03.dphi', None)"
    ),
    "hostile objects": (
        "class Bad:\n"
        "    def __getattribute__(self, name):\n        while True: pass\n"
        "class Sly(str):\n    def __eq__(self, o): return True\n    def __hash__(self): return hash('value')\n"
        "    def __len__(self): raise RuntimeError\n    def __repr__(self): raise RuntimeError\n    __str__ = __repr__\n"
        "def dphi(*a): return Sly('x')\ndef chi1(*a): return {Sly('a'): 1}\ndef saturated_fraction(*a, **k): return [Sly('x')] * 5"
    ),
}  # fmt: skip

# Cells that spoil nothing: each stands between honest cells, and no point may be lost.
ACCIDENTS = {
    "a warning": "import warnings, sys; warnings.warn('careful'); print('harmless', file=sys.stderr)",
    "magics": "%matplotlib inline\n%time x = 1\n%load_ext autoreload\n%autoreload 2",
    "a cell magic": "%%time\ny = 2",
    "unknown magic": "%nosuchmagic 1 2 3",
    "shell": "!ls -la\nfiles = !ls",
    "bash cell": "%%bash\necho hello",
    "pip": "!pip install nosuchpackage\n%pip install torch",
    "help": "import torch\ntorch.tensor?",
    "plot": "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, 2], [3, 4])\nplt.savefig('mine.png')\nplt.show()",
    "widgets": "import ipywidgets\nfrom IPython.display import display\ndisplay(ipywidgets.IntSlider())\nipywidgets.interact(lambda x: x, x=3)",
    "input": "name = input('Your name? ')",
    "missing import": "import a_package_that_nobody_has",
    "an error": "1 / 0",
    "syntax": "def broken(:\n    pass",
    "a check": "from labcheck import check, progress\ncheck('lab03.nothing', None)\nprogress('lab03')",
    "a figure of the lab": "from signalprop import bands, style\nstyle.use()\nbands.draw(None, range(3), [[1, 2, 3]])",
    "exit at the end": "quit()",
    "tabs and Windows lines": "x = 1\r\nif x:\r\n\ty = 2\r\n",
    "nothing": "",
    "a lone surrogate": "word = '\\ud800'",
    "much output": "for i in range(20000): print(i)",
    "an optimizer": "import torch\nw = torch.ones(2, requires_grad=True)\nopt = torch.optim.Adam([w])\nw.sum().backward()\nopt.step()",
    "an optimizer by another name": "import torch\ngetattr(torch, 'opt' + 'im').SGD([torch.ones(2)], 0.1)",
    "a folder for temporary files": "import tempfile\nplace = tempfile.gettempdir()",
    "thread pool": "import concurrent.futures\nwith concurrent.futures.ThreadPoolExecutor(2) as pool: list(pool.map(abs, range(9)))",
    "default type": "import torch\ntorch.set_default_dtype(torch.float64); torch.manual_seed(0); torch.use_deterministic_algorithms(True)",
}
