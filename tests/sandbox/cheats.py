"""Programs that want a pass without being right, for one small problem.

``IN_PROCESS`` are those that a benchmark's own process cannot tell from right answers: the
compatible form may count them, the strict one must not.
"""

PROMPT = '''from typing import List


def total(values: List[int], start: int = 0) -> int:
    """ The sum of the values, added to start. """
'''
TESTS = """

METADATA = {'author': 'us'}


def check(candidate):
    assert candidate([1, 2, 3]) == 6
    assert candidate([], 4) == 4, "empty"
    assert abs(candidate([10, -3], 1) - 8) < 1e-9
    for n in range(5):
        assert candidate(list(range(n))) == n * (n - 1) // 2
    assert sorted([candidate([2]), candidate([1])]) == [1, 2]

check(total)"""
HONEST = "    return start + sum(values)\n"
WRONG = "    return 0\n"

EQUAL = """
class Yes(int):
    def __eq__(self, other): return True
    def __lt__(self, other): return True
    def __sub__(self, other): return 0
    def __hash__(self): return 0
    __ne__ = lambda self, other: False
"""

CHEATS = {
    "exit at once": WRONG + "import os\nos._exit(0)\n",
    "sys.exit": WRONG + "import sys\nsys.exit(0)\n",
    "SystemExit": WRONG + "raise SystemExit\n",
    "quit": WRONG + "quit()\n",
    "exit in the function": "    import os\n    os._exit(0)\n",
    "raise SystemExit in the function": "    raise SystemExit(0)\n",
    "exit handler": WRONG + "import atexit, os\natexit.register(os._exit, 0)\n",
    "exit handler that prints": WRONG
    + "import atexit\natexit.register(print, 'ALL TESTS PASSED', flush=True)\n",
    "marker on stdout": "    print('ALL TESTS PASSED'); print('OK')\n    return 0\n",
    "report by hand": WRONG
    + "import os, json\nfor fd in range(3, 40):\n    try: os.write(fd, json.dumps({'status': "
    "'passed', 'error': '', 'asserts': 9, 'nonce': '00' * 16}).encode())\n"
    "    except OSError: pass\n"
    "os._exit(0)\n",
    "report by hand, goes on": WRONG
    + 'import os, json\nfor fd in range(3, 40):\n    try: os.write(fd, b\'{"status": "passed"}\')\n'
    "    except OSError: pass\n",
    "killed by itself": WRONG + "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n",
    "open string swallows the tests": WRONG + '_ = """',
    "open string with an end of its own": WRONG + "_ = '''\n'''; exit = 1; _ = r'''",
    "comment swallows nothing, backslash does": WRONG + "_ = 1 + \\",
    "decorator replaces check": WRONG + "@lambda function: lambda candidate: None",
    "if False in front of the tests": WRONG + "if False:",
    "class body takes the tests": WRONG + "class Tests:",
    "patched AssertionError": "    return 0\nimport builtins\n"
    "class Quiet(Exception): pass\nbuiltins.AssertionError = Quiet\n",
    "patched builtins": "    return 0\nimport builtins\nbuiltins.abs = lambda v: 0\n"
    "builtins.range = lambda n: []\nbuiltins.sorted = lambda v: [1, 2]\n",
    "own abs and sorted": "    return 0\nabs = lambda v: 0\nsorted = lambda v: [1, 2]\n"
    "range = lambda n: []\n",
    "excepthook": WRONG + "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\n",
    "trace jumps over asserts": "    import sys\n    frame = sys._getframe(1)\n"
    "    def jump(f, event, arg):\n        try: f.f_lineno = f.f_lineno + 1\n"
    "        except ValueError: pass\n        return jump\n    frame.f_trace = jump\n"
    "    sys.settrace(jump)\n    return 0\n",
    "profile ends the process": "    import sys, os\n    sys.setprofile(lambda *a: os._exit(0))\n"
    "    return 0\n",
    "hunts the collector for what looks like a result": WRONG
    + "import gc\nfor thing in gc.get_objects():\n    if type(thing) is list and len(thing) < 3:\n"
    "        thing.append('passed')\n    if type(thing) is dict and 'status' in thing:\n"
    "        thing['status'] = 'passed'\n",
    "walks frames for a list of results": WRONG
    + "import sys\nframe = sys._getframe()\nwhile frame:\n    for value in "
    "list(frame.f_locals.values()):\n        if type(value) is list: value.append('passed')\n"
    "    frame = frame.f_back\nimport os\nos._exit(0)\n",
    "walks frames out of an exception": "    try: 1 / 0\n    except ZeroDivisionError as error:\n"
    "        frame = error.__traceback__.tb_frame.f_back\n        import os\n"
    "        frame.f_globals['check'] = lambda c: None\n        os._exit(0)\n",
    "walks frames for the order and its secret": WRONG
    + "import sys, os, json, re\nframe = sys._getframe()\nwhile frame:\n"
    "    for value in list(frame.f_locals.values()):\n"
    "        for secret in re.findall('[0-9a-f]{32}', str(value)):\n"
    "            for fd in range(3, 20):\n"
    "                text = json.dumps({'status': 'passed', 'nonce': secret})\n"
    "                try: os.write(fd, text.encode())\n"
    "                except OSError: pass\n"
    "            os._exit(0)\n"
    "    frame = frame.f_back\n",
    "deletes check": "    import sys\n    sys._getframe(1).f_globals.pop('check', None)\n"
    "    return 0\n",
    "check of its own": WRONG + "def check(candidate): pass\n",
    "replaces check's code": "    import sys\n    frame = sys._getframe(1)\n"
    "    check = frame.f_globals['check']\n    check.__code__ = (lambda candidate: None).__code__\n"
    "    return 0\n",
    "reads its tests": "    import inspect, sys\n    source = open(sys.argv[0] or '/a').read()\n"
    "    return eval(source)\n",
    "asserts raise nothing": WRONG + "import ctypes\nctypes.pythonapi.PyErr_Clear()\n",
    "thread ends the process": WRONG
    + "import threading, os\nthreading.Timer(0.0, os._exit, (0,)).start()\nimport time\n"
    "time.sleep(0.2)\n",
    "exit code 0 in a fork": WRONG + "import os\nif os.fork():\n    os._exit(0)\n",
    "alarm handler ends with 0": WRONG
    + "import signal, os, time\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(1)\n",
    "exec of true": WRONG + "import os\nos.execv('/bin/true', ['true'])\n",
    "imports turned off": WRONG
    + "import sys\nsys.modules['json'] = None\nsys.modules['os'] = None\n",
    "returns nothing": "    pass\n",
    "always raises": "    raise AssertionError\n",
    "infinite generator": "    while True: yield 6\n",
    "a generator of everything": "    return iter(int, 1)\n",
    "nan": "    return float('nan')\n",
}
IN_PROCESS = {
    "equal to everything": "    return Yes()\n" + EQUAL,
    "its own classes' instance": "    return Any()\n"
    "class Any:\n    __eq__ = __lt__ = __gt__ = lambda *a: True\n"
    "    __sub__ = __abs__ = lambda self, *a: self\n    __hash__ = lambda self: 0\n",
    "unittest.mock.ANY": "    from unittest.mock import ANY\n    return ANY\n",
    "candidate replaced in the caller": "    import sys\n"
    "    sys._getframe(1).f_locals['candidate'] = None\n    return Yes()\n" + EQUAL,
    "the function is a class": "    pass\nclass total(int):\n"
    "    def __new__(cls, *a): return int.__new__(cls, 0)\n"
    "    __eq__ = __lt__ = lambda *a: True\n    __sub__ = lambda *a: 0\n    __hash__ = None\n",
}

# What knows the runner: it takes over the candidate's end of the socket.
_WIRE = WRONG + "import sys\nwire = sys.modules['olmeval.sandbox.inside.strict_wire']\n"
_ENCODE = "wire.Codec.encode = lambda self, value, memo: "
KNOWING = {
    "sends unittest.mock.ANY": _WIRE + _ENCODE + "['import', 'unittest.mock', 'ANY']\n",
    "sends a private class": _WIRE + _ENCODE + "['import', 'unittest.mock', '_ANY']\n",
    "sends a dotted name": _WIRE + _ENCODE + "['import', 'collections', 'abc.Sized']\n",
    "sends the builtins' dictionary": _WIRE + _ENCODE + "['import', 'builtins', '__dict__']\n",
    "sends names nobody asked for": _WIRE
    + "old = wire.Codec.encode\ndef encode(self, value, memo):\n"
    "    if type(value) is dict and 'total' in value:\n"
    "        bad = ['theirs', self._keep(lambda *a: True)[1]]\n"
    "        pairs = [[n, bad] for n in ('abs', 'range', '__builtins__', 'olmeval mark')]\n"
    "        return ['d', [['total', old(self, value['total'], memo)], *pairs]]\n"
    "    return old(self, value, memo)\nwire.Codec.encode = encode\n",
    "sends its tests' own objects": _WIRE + _ENCODE + "['own', 0]\n",
    "sends an argument that is none": _WIRE + _ENCODE + "['argument', 7]\n",
    "sends a mapping": _WIRE + _ENCODE + "{'equal': 'to all'}\n",
    "sends a reference to nothing": _WIRE + _ENCODE + "['r', 99]\n",
    "sends an unknown tag": _WIRE + _ENCODE + "['eval', '6']\n",
    "sends half a message": _WIRE + "import os\nos.write(4, b'\\0\\0\\0\\xff[')\nos._exit(0)\n",
    "sends a pass on the socket": _WIRE
    + 'import os\nos.write(4, b\'\\0\\0\\0\\x17["value",["l",[]],null]x\')\n',
    "sends a question about the tests": _WIRE + "def send(self, message):\n"
    "    text = wire.json.dumps(['ask', 'getattr', 0, ['__globals__'], {}]).encode()\n"
    "    self._peer.sendall(len(text).to_bytes(4, 'big') + text)\nwire.Channel.send = send\n",
    "raises what the tests may catch": _WIRE
    + "import builtins\nbuiltins.Exception = BaseException\nraise GeneratorExit\n",
    "changes its arguments into answers": _WIRE
    + "old = wire.Codec.encode\nwire.Codec.encode = lambda self, value, memo: "
    "['l', [6]] if type(value) is list else old(self, value, memo)\n",
}
