"""The viewer in Chromium: it loads, is worked by keys, and shows hostile texts as texts."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from olmeval.reports.view.serve import started
from olmeval.reports.view.server import Server
from tests.reports.view_runs import HOSTILE, make_run, write_status

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --window-size=1400,900"
)
# Texts with less than 4.5 to 1 between their colour and what is behind them.
CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgb = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const over = (top, under) =>
  [0, 1, 2].map((k) => top[k] * top[3] / 255 + under[k] * (1 - top[3] / 255));
const ground = (node) => {
  const chain = [];
  for (let n = node; n; n = n.parentElement) chain.unshift(n);
  return chain.reduce(
    (under, n) => over(rgb(getComputedStyle(n).backgroundColor), under), [255, 255, 255]);
};
const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const light = (c) => [.2126, .7152, .0722].reduce((sum, w, k) => sum + w * linear(c[k] / 255), 0);
const bad = [];
for (const node of document.querySelectorAll("body *")) {
  if (![...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  if (!node.checkVisibility() || node.closest(":disabled, option")) continue;
  const under = ground(node), top = over(rgb(getComputedStyle(node).color), under);
  const [low, high] = [light(top), light(under)].sort((a, b) => a - b);
  if ((high + .05) / (low + .05) < 4.5)
    bad.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 30)}`);
}
return [bad, document.querySelectorAll("body *").length];
"""
EVIL = """<!DOCTYPE html><title>-</title><script>
const url = "http://127.0.0.1:PORT";
(async () => {
  const told = [];
  for (const options of [{}, {mode: "no-cors"}, {headers: {"X-Olmeval-Token": "TOKEN"}}]) {
    try {
      const answer = await fetch(url + "/api/runs", options);
      told.push(answer.type + await answer.text());
    } catch (error) { told.push("refused"); }
  }
  document.title = JSON.stringify(told);
})();
</script><iframe src="http://127.0.0.1:PORT/"></iframe>"""
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium or chromedriver is not installed: run scripts/install-test-packages.sh",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "first", seed=1)
    make_run(root / "second", seed=2)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with started([root]) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


class Page:
    """The page in the browser, as a person meets it."""

    def __init__(self, chromium: Any, server: Server):
        self.browser, self.server = chromium, server
        chromium.get("about:blank")
        chromium.get(server.link)
        self.wait(lambda: self.count("#runs tbody tr") or self.count(".task"))

    def js(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(f"return {code}", *arguments)

    def wait(self, done: Callable[[], Any], seconds: float = 30) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := done():
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s; the page says: {self.text('body')[:2000]}")

    def count(self, selector: str) -> int:
        return int(self.js("document.querySelectorAll(arguments[0]).length", selector))

    def text(self, selector: str) -> str:
        return str(self.js("document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        """Clicks what is there at this instant, should the page be drawn again just now."""
        self.js("void document.querySelector(arguments[0]).click()", selector)

    def at(self, state: str) -> None:
        """Goes to a permalink, in a page opened anew."""
        self.browser.get("about:blank")
        self.browser.get(f"http://127.0.0.1:{self.server.server_port}/#{state}")
        self.wait(lambda: self.count(".instance"))

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    @property
    def state(self) -> dict[str, str]:
        found: dict[str, str] = self.js(
            "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
        )
        return found

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(chromium: Any, server: Server) -> Iterator[Page]:
    page = Page(chromium, server)
    yield page
    assert page.console() == []


def test_runs_tasks_instances(page: Page) -> None:
    assert "token" not in page.js("location.href")
    page.browser.find_element("link text", "first").click()
    page.wait(lambda: page.count(".instance") == 50)
    assert page.state == {"run": "first", "task": "quiz:rc"}
    assert page.text("#tasks").count("quiz:") == 2 and "1–50 of 120" in page.text(".pager")
    page.wait(lambda: "number 0, iron?" in page.text(".instance .snippet"))
    page.click(".instance")
    page.wait(lambda: "number 0, iron?" in page.text("#detail .prompt > .text"))
    assert page.state["doc"] == "0"
    # Right and wrong are told by signs and words, not by colour alone.
    assert page.text("#detail .gold-mark") == "★ right" and "▲" in page.text("#detail .choices")
    page.wait(lambda: "no tokenizer in '/nowhere'" in page.text("#detail"))


def test_keys_alone(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.at("run=first&task=quiz:rc")
    page.keys("j")
    page.wait(lambda: page.text("#detail h2") == "Q0")
    page.keys("j", Keys.ARROW_DOWN)
    page.wait(lambda: page.text("#detail h2") == "Q2")
    page.keys("k")
    page.wait(lambda: page.text("#detail h2") == "Q1")
    page.keys(Keys.ARROW_RIGHT)
    page.wait(lambda: "51–100" in page.text(".pager"))
    page.keys(Keys.ARROW_LEFT)
    page.wait(lambda: "1–50" in page.text(".pager"))
    page.at("run=first&task=quiz:rc&doc=49")
    page.wait(lambda: page.text("#detail h2") == "Q49")
    page.keys("j")  # over the end of a page
    page.wait(lambda: page.text("#detail h2") == "Q50" and "51–100" in page.text(".pager"))
    page.keys("?")
    page.wait(lambda: page.count("dialog[open]") == 1)
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.count("dialog[open]") == 0)
    page.keys("/")
    assert page.js("document.activeElement.id") == "search"
    page.keys("magnet")
    page.wait(lambda: "1–12 of 12" in page.text(".pager"))
    assert page.state["q"] == "magnet"
    page.keys(Keys.ESCAPE, "j", Keys.ENTER)
    page.wait(lambda: page.text("#detail h2") == "Q3")
    assert page.js("document.activeElement.id") == "detail"
    page.keys(Keys.ESCAPE)
    assert page.js("document.activeElement.className") == "instance"
    page.keys("t")
    assert page.js("document.activeElement.classList.contains('task')")


def test_filters_and_permalinks(page: Page) -> None:
    page.at("run=first&task=quiz:rc")
    page.wait(lambda: page.count(".filters button") >= 5)
    page.keys("2")
    page.wait(lambda: page.state.get("filter") == "wrong")
    wrong = page.wait(lambda: page.text('[data-filter="wrong"][aria-pressed="true"] small').strip())
    page.wait(lambda: f"of {wrong}" in page.text(".pager"))
    assert page.count(".signs .right") == 0
    page.keys("j")
    page.wait(lambda: page.state.get("doc"))
    name = page.wait(lambda: page.text("#detail h2"))
    state = page.js("location.hash.slice(1)")
    page.at(state)  # the same in a page opened anew
    page.wait(lambda: page.text("#detail h2") == name)
    page.wait(lambda: page.text('.filters [aria-pressed="true"]').startswith("Wrong"))
    page.at("run=first&task=quiz:rc&doc=77")
    page.wait(lambda: page.text("#detail h2") == "Q77" and "51–100" in page.text(".pager"))
    page.wait(lambda: "78 of 120 listed" in page.text("#detail header"))


def test_two_runs_side_by_side(page: Page) -> None:
    page.at("run=first&with=second&task=quiz:rc")
    signs = page.js("[...document.querySelectorAll('.signs')].map(s => s.innerText)")
    assert signs[0] in ("✓→✗", "✗→✓")
    page.wait(lambda: "lost" in page.text("#tasks") and "gained" in page.text("#tasks"))
    page.keys("j")
    page.wait(lambda: page.count("#detail .side .choices") == 2)
    boxes = page.js(
        "[...document.querySelectorAll('.side')].map(s => s.getBoundingClientRect().left)"
    )
    assert boxes[1] > boxes[0] + 200
    shown = page.text("#detail h2")
    page.keys("x")
    page.wait(lambda: page.state.get("run") == "second" and page.state["with"] == "first")
    page.wait(lambda: page.text("#detail .of-run") == "second" and page.text("#detail h2") == shown)


def test_hostile_texts_stay_texts(page: Page) -> None:
    title = "document.title"
    for doc, text in enumerate(HOSTILE):
        page.at(f"run=first&task=riddles:cot&doc={doc}")
        page.wait(lambda: page.count(".sample .text") == 2)
        shown = page.js("document.querySelector('.sample .text').textContent")
        if len(text) > 20_000:
            assert shown.startswith(text[:20_000]) and "show all 1,000,000 characters" in shown
            begun = time.monotonic()
            page.click(".more")
            page.wait(
                lambda: (
                    page.js("document.querySelector('.sample .text').textContent.length") == 10**6
                )
            )
            assert time.monotonic() - begun < 20
        elif doc < 2:
            assert shown == text
        elif doc == 3:  # what turns or hides text is named
            assert shown == "left U+202Eright to leftU+202C U+200F U+2066 isolated"
        elif doc == 4:
            assert shown == "null U+0000 bell U+0007 half U+D83D of a pair, zeroU+200Bwidth"
        else:
            assert shown == text
        assert "owned" not in page.js(title)
    assert page.count("#detail iframe, #detail script, #detail img, #list img, #list iframe") == 0
    # The names and prompts in the list, too.
    assert HOSTILE[1] in page.js("document.querySelector('#list').textContent")
    page.wait(lambda: HOSTILE[0][:100] in page.js("document.querySelector('#list').textContent"))


def test_samples_show_what_graders_and_sandbox_made_of_them(page: Page) -> None:
    page.at("run=first&task=riddles:cot&filter=cheats")
    page.wait(lambda: "1–1 of 1" in page.text(".pager"))
    page.keys("j")
    page.wait(lambda: page.count(".sample") == 2 and not page.count("[aria-busy]"))
    shown = page.text("#detail")
    assert "Sample 1 of 2 ✓ right" in shown and "Sample 2 of 2 ✗ wrong" in shown
    assert "Program: failed" in shown and "as published: passed" in shown
    assert "Suspected cheat" in shown and "AssertionError: 1" in shown
    page.click(".program summary")
    assert HOSTILE[0] in page.text(".program details")
    assert page.text(".sample mark") == "2"  # the extracted answer, where it stands in the text
    assert "Extracted answer: 2" in shown


def test_a_state_that_is_wrong_is_a_sentence(page: Page) -> None:
    page.at("run=first&task=quiz:rc")
    page.js("void (location.hash = 'run=first&task=<b>none</b>')")
    page.wait(lambda: "has no task '<b>none</b>'" in page.text("#notice"))
    page.js("void (location.hash = 'run=first&task=quiz:rc')")
    page.wait(lambda: page.count("#notice[hidden]"))


def test_new_runs_appear(page: Page, root: Path) -> None:
    write_status(root / "third", "running", ["quiz:rc"])
    try:
        page.wait(lambda: "third" in page.text("#runs"))
        assert "running" in page.text("#runs")
    finally:
        shutil.rmtree(root / "third")


def test_phone_width_has_no_sideways_scroll(page: Page) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        of_riddles = "run=first&task=riddles:cot"
        for state in (
            "run=first&with=second&task=quiz:rc&doc=3",
            of_riddles,
            f"{of_riddles}&doc=2",
        ):
            page.at(state)
            page.wait(lambda: not page.count("[aria-busy]"))
            assert page.js("document.documentElement.scrollWidth") <= 390
        page.browser.get("about:blank")
        page.browser.get(f"http://127.0.0.1:{page.server.server_port}/#run=first")
        page.wait(lambda: page.count(".task"))
        page.click(".task")
        page.wait(lambda: page.count(".instance"))
        page.click(".instance")
        page.wait(lambda: "Q0" in page.text("#detail h2"))
        page.click("#detail .back")
        page.wait(lambda: not page.state.get("doc") and page.text("#list .head"))
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_contrast_of_texts(page: Page) -> None:
    """WCAG 2.1, 1.4.3: 4.5 to 1, in light and dark (colours as the browser computes them)."""
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        for state in (
            "run=first&with=second&task=quiz:rc&doc=3",
            "run=first&task=riddles:cot&doc=5",
        ):
            page.at(state)
            page.wait(lambda: page.count("#detail .side") and not page.count("[aria-busy]"))
            bad, looked_at = page.browser.execute_script(CONTRAST)
            assert bad == [] and looked_at > 100, scheme
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_another_site_reads_nothing(chromium: Any, server: Server, tmp_path: Path) -> None:
    """A page of another origin that even knows the token."""
    evil = EVIL.replace("PORT", str(server.server_port)).replace("TOKEN", server.token)
    (tmp_path / "evil.html").write_text(evil)
    chromium.get((tmp_path / "evil.html").as_uri())
    end = time.monotonic() + 20
    while chromium.title == "-" and time.monotonic() < end:
        time.sleep(0.1)
    assert chromium.title in ('["refused","refused","refused"]', '["refused","opaque","refused"]')
    chromium.get_log("browser")
