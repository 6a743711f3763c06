"""Small problems of our own in the shape of MultiPL-E: a prompt, completions, tests.

The problem: the sum of two integers. A completion ends where the language's stop string would
have cut it, and the tests begin with what the stop string took.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Completions of one prompt; ``quits`` exits with 0 before any test, ``broken`` is no code.

    ``disarms`` lets every assertion of the tests pass; ``reads`` prints what its source prints.
    """

    prompt: str
    tests: str
    honest: str
    wrong: str
    broken: str
    endless: str
    hog: str
    quits: str
    disarms: str = ""
    reads: str = ""


SAMPLES: dict[str, Sample] = {
    "cpp": Sample(
        "#include<assert.h>\n#include<bits/stdc++.h>\n// The sum of a and b.\n"
        "long add(long a, long b) {\n",
        "\n}\nint main() {\n    auto candidate = add;\n    assert(candidate((2), (3)) == (5));\n"
        "    assert(candidate((-1), (1)) == (0));\n}\n",
        "    return a + b;",
        "    return a - b;",
        "    return a + ;",
        "    while (true) { }",
        "    std::vector<char*> kept; while (true) { kept.push_back(new char[1 << 24]);"
        " memset(kept.back(), 1, 1 << 24); }",
        "    exit(0);",
        "    return 7;\n}\n#undef assert\n#define assert(x) (void)(x)\nlong other() {\n  return 1;",
    ),
    "java": Sample(
        "import java.util.*;\nimport java.lang.reflect.*;\nimport org.javatuples.*;\n"
        "import java.security.*;\nimport java.math.*;\nimport java.io.*;\n"
        "import java.util.stream.*;\nclass Problem {\n    // The sum of a and b.\n"
        "    public static long add(long a, long b) {\n",
        "\n    }\n    public static void main(String[] args) {\n"
        "    assert(add((2l), (3l)) == (5l));\n    assert(add((-1l), (1l)) == (0l));\n    }\n\n}\n",
        "        return Pair.with(a, b).getValue0() + b;",
        "        return a - b;",
        "        return a + ;",
        "        while (a > -100) { }\n        return 0;",
        "        List<byte[]> kept = new ArrayList<>(); while (a > -100) {"
        " kept.add(new byte[1 << 24]); }\n        return 0;",
        "        System.exit(0); return 0;",
        reads="        try { System.out.println(new String(java.nio.file.Files.readAllBytes("
        'java.nio.file.Path.of("Problem.java"))).replaceAll("(?s).*\\\\\\\\n([0-9a-f]{32}).*",'
        ' "$1")); } catch (Exception e) { } System.exit(0); return 0;',
    ),
    "js": Sample(
        "//The sum of a and b.\nfunction add(a, b){\n",
        "\nconst assert = require('node:assert');\n\n\nfunction test() {\n  let candidate = add;\n"
        "  assert.deepEqual(candidate(2, 3),5);\n  assert.deepEqual(candidate(-1, 1),0);\n}\n\n"
        "test();",
        "  return a + b;\n}\n",
        "  return a - b;\n}\n",
        "  return a + ;\n}\n",
        "  while (true) { }\n}\n",
        "  const kept = []; while (true) kept.push(Buffer.alloc(1 << 24, 1));\n}\n",
        "  process.exit(0);\n}\n",
        "  return 7;\n}\nrequire('node:assert').deepEqual = () => {};\n",
        "  console.log(/[0-9a-f]{32}/.exec(require('fs').readFileSync(__filename, 'utf8'))[0]);\n"
        "  process.exit(0);\n}\n",
    ),
    "php": Sample(
        "<?php\n// The sum of a and b.\nfunction add($a, $b) {\n",
        "\nfunction candidate(...$args) {\n    return add(...$args);\n}\n\n"
        "function test(): void {\n"
        '    if (candidate(2, 3) !== 5) { throw new Exception("Test failed!"); }\n'
        '    if (candidate(-1, 1) !== 0) { throw new Exception("Test failed!"); }\n}\n\ntest();',
        "    return $a + $b;\n}\n",
        "    return $a - $b;\n}\n",
        "    return $a + ;\n}\n",
        "    while (true) { }\n}\n",
        "    ini_set('memory_limit', '-1'); $kept = [];"
        " while (true) { $kept[] = str_repeat('x', 1 << 24); }\n}\n",
        "    exit(0);\n}\n",
        "    return 7;\n}\n?>\n",
        "    preg_match('/[0-9a-f]{32}/', file_get_contents(__FILE__), $m);"
        ' echo "$m[0]\\n"; exit(0);\n}\n',
    ),
    "rs": Sample(
        "/// The sum of a and b.\nfn add(a: isize, b: isize) -> isize {\n",
        "\n}\n\nfn main() {\n    let candidate = add;\n    assert_eq!(candidate(2, 3), 5);\n"
        "    assert_eq!(candidate(-1, 1), 0);\n}\n",
        "    a + b",
        "    a - b",
        "    a + ;",
        "    loop { }",
        "    let mut kept: Vec<Vec<u8>> = Vec::new(); loop { kept.push(vec![1u8; 1 << 24]); }",
        "    std::process::exit(0)",
        "    7\n}\nmacro_rules! assert_eq { ($a:expr, $b:expr) => { let _ = ($a, $b); } }\n"
        "fn other() {",
    ),
    "sh": Sample(
        "#!/bin/bash\n# The sum of $1 and $2.\n#\n# $1 is an integer\n# $2 is an integer\n"
        "add() {\n",
        '\n}\n\ncandidate() {\n    add "$@"\n}\n\nset -e\nrun_test() {\n'
        '    [[ $(candidate "2" "3") = "5" ]]\n    [[ $(candidate "-1" "1") = "0" ]]\n}\n\n'
        "run_test",
        "    echo $(($1 + $2))",
        "    echo $(($1 - $2))",
        "    echo $(($1 + $2)",
        "    while true; do :; done",
        "    local kept=x; while true; do kept=$kept$kept; done",
        "    echo 1\n}\nexit 0\nother() {",
        "    echo 0\n}\nset() { :; }\nother() {\n    :",
        '    echo 1\n}\ngrep -oE "[0-9a-f]{32}" "$0"\nexit 0\nother() {',
    ),
    "go": Sample(
        'package add_test\n\nimport (\n    "testing"\n    "fmt"\n)\n\n// The sum of a and b.\n'
        "func add(a int, b int) int {\n",
        "\nfunc TestAdd(t *testing.T) {\n  candidate := add\n\ttype test struct {\n"
        "\t\tactual   interface{}\n\t\texpected interface{}\n\t}\n   tests := []test{\n"
        "     { actual: candidate(2, 3), expected: 5 },\n"
        "     { actual: candidate(-1, 1), expected: 0 },\n   }\n\n\tfor i, tc := range tests {\n"
        '\t\tt.Run(fmt.Sprintf("test num % d", i), func(t *testing.T) {\n'
        '\t\t\tif fmt.Sprintf("%v", tc.actual) != fmt.Sprintf("%v", tc.expected) {\n'
        "\t\t\t\tt.Errorf(\"expected '%s', got '%s'\", tc.expected, tc.actual)\n\t\t\t}\n"
        "\t\t})\n\t}\n}\n",
        "    return a + b\n}\n",
        "    return a - b\n}\n",
        "    return a + \n}\n",
        "    for { }\n}\n",
        "    kept := [][]byte{}\n    for { one := make([]byte, 1 << 24)\n"
        "        for i := range one { one[i] = 1 }\n        kept = append(kept, one) }\n}\n",
        '    fmt.Print("")\n    return a + b\n}\n\nfunc TestMain(m *testing.M) {\n}\n',
    ),
    "ts": Sample(
        "//The sum of a and b.\nfunction add(a: number, b: number): number {\n",
        "\ndeclare var require: any;\nconst assert = require('node:assert');\n\n\n"
        "function test() {\n  let candidate = add;\n  assert.deepEqual(candidate(2, 3),5);\n"
        "  assert.deepEqual(candidate(-1, 1),0);\n}\n\ntest();",
        "  return a + b;\n}\n",
        "  return a - b;\n}\n",
        "  return a + ;\n}\n",
        "  while (true) { }\n}\n",
        "  const kept: any[] = []; while (true) kept.push(new Uint8Array(1 << 24).fill(1));\n}\n",
        '  (globalThis as any)["process"].exit(0);\n  return 0;\n}\n',
    ),
    "rb": Sample(
        "# The sum of a and b.\ndef add(a, b)\n",
        "\nrequire 'test/unit'\nclass TestHumanEval < Test::Unit::TestCase\n  def test_add\n"
        "    candidate = method(:add)\n    assert_equal(5, candidate.call(2, 3))\n"
        "    assert_equal(0, candidate.call(-1, 1))\n  end\nend\n",
        "  a + b\nend",
        "  a - b\nend",
        "  a + \n)\nend",
        "  loop { }\nend",
        "  kept = []; loop { kept << 'x' * (1 << 24) }\nend",
        "  exit!(0)\nend",
        "  7\nend\nrequire 'test/unit'\nclass Test::Unit::TestCase\n"
        "  def assert_equal(*)\n  end\nend",
    ),
    "lua": Sample(
        "-- The sum of a and b.\nlocal function add(a, b)\n",
        "\nlu = require('luaunit')\n\nfunction test_humaneval()\nlocal candidate = add\n"
        "    lu.assertEquals(candidate(2, 3), 5)\n    lu.assertEquals(candidate(-1, 1), 0)\nend\n\n"
        "os.exit(lu.LuaUnit.run())",
        "  return a + b\nend",
        "  return a - b\nend",
        "  return a + \nend",
        "  while true do end\nend",
        "  local kept = {}; while true do kept[#kept + 1] = string.rep('x', 1 << 24) .. #kept end"
        "\nend",
        "  os.exit(0)\nend",
        "  return 7\nend\nrequire('luaunit').LuaUnit.run = function() return 0 end",
    ),
    "pl": Sample(
        "# The sum of a and b.\nsub add {\n    my($a, $b) = @_;\n",
        "\nuse Test::Deep;\n\n\nsub testhumaneval {\n    my $candidate = \\&add;\n"
        '        if(eq_deeply($candidate->(2, 3),5)) {\n        print "ok!" }else{\n'
        "        exit 1;\n        }\n"
        '        if(eq_deeply($candidate->(-1, 1),0)) {\n        print "ok!" }else{\n'
        "        exit 1;\n        }\n}\n\ntesthumaneval();",
        "    return $a + $b;\n}\n",
        "    return $a - $b;\n}\n",
        "    return $a + ;\n}\n",
        "    while (1) { }\n}\n",
        "    my @kept; while (1) { push @kept, 'x' x (1 << 24); }\n}\n",
        "    exit 0;\n}\n",
        "    return 7;\n}\nBEGIN { require Test::Deep; no warnings;"
        " *Test::Deep::eq_deeply = sub { 1 }; }\n",
    ),
    "r": Sample(
        "# The sum of a and b.\nadd <- function(a, b) {",
        "\ntest_humaneval <- function() {\n    candidate <- add\n"
        "    if(!identical(candidate(2, 3), 5)){quit('no', 1)}\n"
        "    if(!identical(candidate(-1, 1), 0)){quit('no', 1)}\n}\ntest_humaneval()",
        "\n    a + b\n}\n",
        "\n    a - b\n}\n",
        "\n    a + )\n}\n",
        "\n    while (TRUE) { }\n}\n",
        "\n    kept <- list(); while (TRUE) kept[[length(kept) + 1]] <- rep(1, 2e6)\n}\n",
        "\n    quit('no', 0)\n}\n",
    ),
    "cs": Sample(
        "using System;\nusing System.Numerics;\nusing System.Diagnostics;\n"
        "using System.Collections.Generic;\nusing System.Linq;\nusing System.Text;\n"
        "class Problem {\n    // The sum of a and b.\n"
        "    public static long Add(long a, long b) {\n",
        "\n    }\n    public static void Main(string[] args) {\n"
        "    Debug.Assert(Add((2L), (3L)) == (5L));\n    Debug.Assert(Add((-1L), (1L)) == (0L));\n"
        "    }\n\n}\n",
        "        return a + b;",
        "        return a - b;",
        "        return a + ;",
        "        while (true) { }",
        "        var kept = new List<byte[]>(); while (true) { var one = new byte[1 << 24];"
        " for (int i = 0; i < one.Length; i += 512) one[i] = 1; kept.Add(one); }",
        "        Environment.Exit(0); return 0;",
        "        Debug.Listeners.Clear(); Trace.Listeners.Clear(); return 7;",
    ),
    "rkt": Sample(
        "#lang racket\n\n;; The sum of a and b.\n(define (add a b)\n",
        "\n(require rackunit)\n\n(define (test-humaneval) \n\n  (let (( candidate add))\n"
        "    (check-within (candidate 2 3) 5 0.001)\n    (check-within (candidate -1 1) 0 0.001)\n"
        "))\n\n(test-humaneval)",
        "  (+ a b))",
        "  (- a b))",
        "  (+ a b)))",
        "  (let loop () (loop)))",
        "  (let loop ((kept '())) (loop (cons (make-bytes 16777216 1) kept))))",
        "  (exit 0))",
    ),
}
