"""Programs in other languages than Python: how each is compiled, run, and known to have passed.

The table follows MultiPL-E (Cassano et al. 2023, IEEE TSE 49(7); github.com/nuprl/MultiPL-E,
``evaluation/src``): its file names, compilers' flags and time limits (15 s a step; 5 s to run
JavaScript and Rust, as in the harness that OLMES uses), and its tests' shapes.

There a program passes when it exits with 0, which a program can do before the tests run. Here two
statements are put behind the last assertion of the tests. The first prints a *nonce*, a random
word that is new in each run, so that a pass proves that control flow came to the end of the tests.
The second, in a second run of every program that passed, is an assertion that cannot hold, in the
tests' own form: a program whose nonce is printed all the same has disarmed the assertions, or
prints what it finds in its own source, and fails, too (:mod:`olmeval.sandbox.languages_judge`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from olmeval.errors import UserError, nearest
from olmeval.sandbox import toolchains
from olmeval.sandbox.types import MIB, Command, Limits, Step

NONCE = "@NONCE@"
STEP_SECONDS = 15.0
# MultiPL-E gives a compiler 15 s, too. What compiles at all needs a tenth of that, so a longer
# limit changes no verdict but those of a crowded machine.
COMPILE_SECONDS = 45.0
# For programs and their compilers alike; MultiPL-E has no limit, the largest compilers need 0.5 GB.
MEMORY = 2048 * MIB
# Programs whose text means the same when GCC's header of all headers is read before it.
ALL_HEADERS = re.compile(r"\s*(#include\s*<assert\.h>\s*)?#include\s*<bits/stdc\+\+\.h>")


@dataclass(frozen=True)
class Language:
    """One language.

    ``compile`` and ``run`` are command lines whose words ``{tool}`` stand for entries of
    ``tools``, programs or library files that must be installed. ``place`` puts text behind the
    last assertion of a test's text, or returns None where the tests are not of the known shape.
    ``say`` prints the nonce on a line of its own; ``never`` is an assertion that does not hold.
    ``quiet``: anything on standard error is a failure; ``marks``: so is each of these words.
    """

    name: str
    title: str
    file: str
    run: tuple[str, ...]
    tools: dict[str, str]
    packages: str  # Debian packages that have the tools
    place: Callable[[str, str], str | None]
    say: str
    never: str
    trial: tuple[str, str] = field(kw_only=True)  # program and tests that must pass
    compile: tuple[str, ...] = ()
    run_seconds: float = STEP_SECONDS
    processes: int = 64
    room: int = 128 * MIB
    quiet: bool = False
    marks: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    version: tuple[str, ...] = ("--version",)


def append(tests: str, text: str) -> str | None:
    return f"{tests}\n{text}\n"


def before_last(token: str, count: int = 1) -> Callable[[str, str], str | None]:
    """Before the ``count``-th last ``token``, which closes the function that asserts."""

    def place(tests: str, text: str) -> str | None:
        at = len(tests)
        for _ in range(count):
            at = tests.rfind(token, 0, at)
            if at < 0:
                return None
        # A final return would make what stands behind it unreachable.
        returns = re.search(r"return\s+0\s*;\s*$", tests[:at])
        at = returns.start() if returns else at
        return f"{tests[:at]}{text}\n{tests[at:]}"

    return place


LANGUAGES: dict[str, Language] = {
    language.name: language
    for language in (
        Language(
            "cpp", "C++", "main.cpp", ("./main",), {"g++": "g++"}, "g++", before_last("}"),
            f'std::fputs("\\n{NONCE}\\n", stdout); std::fflush(stdout);', "assert(1 == 2);",
            compile=("{g++}", "-std=c++17", "-o", "main", "main.cpp"), processes=32,
            trial=("#include<assert.h>\n#include<bits/stdc++.h>\n",
                   "int main() {\n    assert(1 == 1);\n}\n"),
        ),
        Language(
            "java", "Java", "Problem.java",
            ("{java}", "-XX:+UseSerialGC", "-Xmx1g", "-ea", "-cp", ".:{tuples}", "Problem"),
            {"javac": "javac", "java": "java", "tuples": "/usr/share/java/javatuples.jar"},
            "default-jdk-headless libjavatuples-java", before_last("}", 2),
            "java.io.PrintStream olmevalOut = new java.io.PrintStream("
            "new java.io.FileOutputStream(java.io.FileDescriptor.out));\n"
            f'olmevalOut.print("\\n{NONCE}\\n"); olmevalOut.flush();',
            "assert(1 == 2);",
            compile=("{javac}", "-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1", "-encoding",
                     "UTF8", "-cp", "{tuples}", "-d", ".", "Problem.java"),
            trial=("import org.javatuples.*;\nclass Problem {\n",
                   "    public static void main(String[] args) {\n"
                   "    assert(Pair.with(1l, 2l).getValue0() == 1l);\n    }\n}\n"),
        ),
        Language(
            "js", "JavaScript", "main.js", ("{node}", "main.js"), {"node": "node"}, "nodejs",
            append, f";require('node:process').stdout.write('\\n{NONCE}\\n');",
            ";require('node:assert').deepEqual(1, 2);", run_seconds=5.0,
            variables={"OPENSSL_CONF": "/dev/null"},  # its own lies in /etc
            trial=("", "require('node:assert').deepEqual([1], [1]);"),
        ),
        Language(
            "php", "PHP", "main.php", ("{php}", "main.php"), {"php": "php"}, "php-cli", append,
            f'fwrite(STDOUT, "\\n{NONCE}\\n");',
            'if (1 !== 2) { throw new Exception("Test failed!"); }', processes=32,
            trial=("<?php\n", 'if (1 !== 1) { throw new Exception("Test failed!"); }'),
        ),
        Language(
            "rs", "Rust", "main.rs", ("./main",), {"rustc": "rustc", "cc": "cc"}, "rustc",
            before_last("}"),
            f'{{ use std::io::Write; let mut out = std::io::stdout(); let _ = out.write_all('
            f'b"\\n{NONCE}\\n"); let _ = out.flush(); }}',
            "assert_eq!(1, 2);",
            compile=("{rustc}", "-C", "linker={cc}", "-o", "main", "main.rs"), run_seconds=5.0,
            trial=("", "fn main() {\n    assert_eq!(1, 1);\n}\n"),
        ),
        Language(
            "sh", "Bash", "main.sh", ("{bash}", "main.sh"), {"bash": "bash"}, "bash", append,
            f"builtin printf '\\n{NONCE}\\n'", '[[ "a" = "b" ]]', processes=32,
            trial=("", 'set -e\n[[ "a" = "a" ]]'),
        ),
        Language(
            "go", "Go", "main_test.go", ("./main", "-test.v"), {"go": "go", "bash": "bash"},
            "golang-go", before_last("}"),
            f'if !t.Failed() {{ fmt.Print("\\n{NONCE}\\n") }}',
            'if fmt.Sprintf("%v", 1) != fmt.Sprintf("%v", 2) { t.Errorf("control") }',
            # Its cache must have an absolute path, which only the shell knows.
            compile=("{bash}", "-c", 'GOCACHE=$PWD/.cache GOPATH=$PWD/.go exec "$@"', "bash",
                     "{go}", "test", "-c", "-o", "main", "main_test.go"), room=512 * MIB,
            variables={"GO111MODULE": "off", "CGO_ENABLED": "0", "GOMAXPROCS": "2"},
            version=("version",),
            trial=('package trial_test\n\nimport (\n    "testing"\n    "fmt"\n)\n',
                   "func TestTrial(t *testing.T) {\n    fmt.Sprint(1)\n}\n"),
        ),
        Language(
            "ts", "TypeScript", "main.ts", ("{node}", "main.js"),
            {"tsc": "tsc", "node": "node"}, "node-typescript nodejs", append,
            f";require('node:process').stdout.write('\\n{NONCE}\\n');",
            ";require('node:assert').deepEqual(1, 2);",
            compile=("{node}", "{tsc}", "--target", "esnext", "main.ts"),
            variables={"OPENSSL_CONF": "/dev/null"},  # its own lies in /etc
            trial=("declare var require: any;\n", "require('node:assert').deepEqual([1], [1]);"),
        ),
        Language(
            "rb", "Ruby", "main.rb", ("{ruby}", "main.rb"), {"ruby": "ruby"}, "ruby",
            before_last("end", 2), f'STDOUT.syswrite("\\n{NONCE}\\n")', "assert_equal(1, 2)",
            processes=32,
            trial=("", "require 'test/unit'\nclass TestTrial < Test::Unit::TestCase\n"
                   "  def test_trial\n    assert_equal(1, 1)\n  end\nend\n"),
        ),
        Language(
            "lua", "Lua", "main.lua", ("{lua}", "main.lua"),
            {"lua": "lua5.4", "luaunit": "/usr/share/lua/5.4/luaunit.lua"}, "lua5.4 lua-unit",
            before_last("end"), f'io.stdout:write("\\n{NONCE}\\n") io.stdout:flush()',
            "lu.assertEquals(1, 2)",
            processes=32, version=("-v",),
            trial=("", "lu = require('luaunit')\n\nfunction test_trial()\n"
                   "    lu.assertEquals(1, 1)\nend\n\nos.exit(lu.LuaUnit.run())"),
        ),
        Language(
            "pl", "Perl", "main.pl", ("{perl}", "main.pl"),
            {"perl": "perl", "deep": "/usr/share/perl5/Test/Deep.pm"}, "perl libtest-deep-perl",
            append, f'syswrite(STDOUT, "\\n{NONCE}\\n");', "exit 1 unless eq_deeply(1, 2);",
            processes=32, marks=("ERROR",),
            trial=("", "use Test::Deep;\nexit 1 unless eq_deeply([1], [1]);"),
        ),
        Language(
            "r", "R", "main.r", ("{R}", "--vanilla", "--slave", "--file=main.r"),
            {"R": "/usr/lib/R/bin/R"}, "r-base-core", append, f'cat("\\n{NONCE}\\n")',
            "stopifnot(isTRUE(all.equal(1, 2)))",
            trial=("", "stopifnot(isTRUE(all.equal(1, 1)))"),
        ),
        Language(
            "cs", "C#", "main.cs", ("{mono}", "main.exe"),
            {"mono": "mono", "mcs": "/usr/lib/mono/4.5/mcs.exe"},
            "mono-mcs mono-runtime libmono-system-core4.0-cil libmono-system-numerics4.0-cil",
            before_last("}", 2),
            f'System.Console.Out.Write("\\n{NONCE}\\n"); System.Console.Out.Flush();',
            "Debug.Assert(1 == 2);",
            compile=("{mono}", "{mcs}", "-d:DEBUG", "-r:System.Numerics.dll", "main.cs"),
            variables={"MONO_TRACE_LISTENER": "Console.Error"},
            marks=("DefaultTraceListener.Fail", "Unhandled Exception", "---- DEBUG ASSERTION"),
            trial=("using System.Diagnostics;\nclass Problem {\n",
                   "    public static void Main(string[] args) {\n"
                   "    Debug.Assert(1 == 1);\n    }\n}\n"),
        ),
        Language(
            "rkt", "Racket", "main.rkt", ("{racket}", "main.rkt"), {"racket": "racket"}, "racket",
            append, f'(display "\\n{NONCE}\\n")', "(check-within 1 2 0.001)", quiet=True,
            trial=("#lang racket\n(require rackunit)\n", "(check-within 1 1 0.001)"),
        ),
    )
}  # fmt: skip


def language(name: str) -> Language:
    """The language of that name in MultiPL-E; :class:`UserError` for another name."""
    try:
        return LANGUAGES[name]
    except KeyError:
        raise UserError(
            f"programs in '{name}' cannot be run; known languages: {', '.join(LANGUAGES)}"
            + nearest(name, LANGUAGES)
        ) from None


def missing(name: str) -> str | None:
    """A sentence that says what ``name`` lacks on this machine and how to get it, or None."""
    one = language(name)
    reasons = [
        found.reason
        for program in one.tools.values()
        if isinstance(found := toolchains.find(program), toolchains.Missing)
    ]
    if not reasons:
        return None
    return (
        f"{one.title} programs cannot be run here ({'; '.join(reasons)}): "
        f"`apt-get install {one.packages}`"
    )


def source(name: str, program: str, tests: str, nonce: str, control: bool = False) -> str | None:
    """Program and tests with the nonce's statement, in a control run behind one that fails.

    None where the tests are not of the shape that the language's benchmark has.
    """
    one = language(name)
    said = one.say.replace(NONCE, nonce)
    placed = one.place(tests, f"{one.never}\n{said}" if control else said)
    return None if placed is None else program + placed


def command_for(name: str, text: str, key: str) -> Command:
    """The command that compiles and runs ``text`` in the language ``name``.

    Raises :class:`UserError` for an unknown language, or where its toolchain is not installed.
    """
    one = language(name)
    lacking = missing(name)
    if lacking:
        raise UserError(lacking)
    tools = {
        word: tool
        for word, program in one.tools.items()
        if isinstance(tool := toolchains.find(program), toolchains.Tool)
    }

    mounts = dict.fromkeys(m for tool in tools.values() for m in tool.mounts)
    compiler = list(one.compile)
    if name == "cpp" and ALL_HEADERS.match(text):
        flags = tuple(word for word in one.compile if word.startswith("-std"))
        headers = toolchains.precompiled_header(tools["g++"].path, flags)
        if headers is not None:
            mounts[str(headers)] = None
            compiler[1:1] = ["-I", str(headers), "-include", "bits/stdc++.h"]

    def step(words: Sequence[str], seconds: float) -> Step:
        # JVM, V8 and Go reserve far more addresses than they use.
        limits = Limits(
            seconds=seconds, memory=MEMORY, processes=one.processes, file_bytes=one.room,
            inodes=4000, address_space=False,
        )  # fmt: skip
        return Step(tuple(_filled(word, tools) for word in words), limits)

    steps = [step(compiler, COMPILE_SECONDS)] if compiler else []
    steps.append(step(one.run, one.run_seconds))
    return Command(
        key, {one.file: text.encode("utf-8", "surrogatepass")}, tuple(steps),
        {"LANG": "C.UTF-8", **one.variables}, tuple(mounts),
    )  # fmt: skip


def _filled(word: str, tools: dict[str, toolchains.Tool]) -> str:
    return re.sub(r"\{([\w+]+)\}", lambda m: tools[m[1]].path, word)
