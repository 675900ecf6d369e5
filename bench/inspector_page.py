# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.inspector_page`: how long the inspector's page blocks its browser with 1,000 requests.

The page is scrolled from end to end, filtered, and receives requests. For each step, the processor time of the page's main thread is
measured, and at the end that of the longest task of all, which do not depend on what else runs on the machine. The browser also reports
tasks that take more than 50 ms of real time.
It needs Chromium in PATH, and Playwright (`pip install --group browser`).
"""

import asyncio
import json
import shutil
import statistics
import sys
from typing import Final

from apisix.gateway.inspector.flows import MAX_FLOWS
from apisix.gateway.inspector.server import Inspector
from apisix.gateway.report import CapturedMessage, PhaseReport, RequestReport

ROUNDS: Final = 5
ARRIVING: Final = 200
"""How many requests arrive in each round."""

OBSERVE: Final = """
window.longTasks = [];
const note = (list) => longTasks.push(...list.getEntries().map((entry) => entry.duration));
new PerformanceObserver(note).observe({ type: "longtask", buffered: true });
"""
SCROLL: Final = """
async (top) => { document.getElementById("rows").scrollTop = top; await new Promise(requestAnimationFrame); }
"""
FILTER: Final = """
async (value) => {
  const text = document.getElementById("filter-text");
  text.value = value;
  text.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise(requestAnimationFrame);
}
"""
TEXTS: Final = ("i", "it", "item", "items/9", "none", "")
STEP_PX: Final = 500
ROW_PX: Final = 44


class Steps:
    """The processor time of steps, in milliseconds, and the tasks of more than 50 ms of real time."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.long_tasks: list[float] = []


def report(number: int) -> RequestReport:
    """Return one of several kinds of requests."""
    headers = tuple((f"X-Header-{n}", f"value {n} of {number}") for n in range(10))
    return RequestReport(
        "GET",
        f"/items/{number}?page={number % 7}",
        503 if number % 5 == 0 else 200,
        route_id=f"route-{number % 20}",
        received=CapturedMessage(headers),
        phases=[PhaseReport("ext-plugin-pre-req", (f"plugin-{number % 10}",), began_s=0.001, duration_s=0.002)],
    )


async def measure(executable: str) -> tuple[dict[str, Steps], float]:
    """Return what the steps took, by their kind, and the processor time of the longest task in milliseconds."""
    from playwright.async_api import async_playwright

    inspector = Inspector()
    for number in range(MAX_FLOWS):
        inspector.request(report(number))
    port = await inspector.bind("127.0.0.1", 0)
    await inspector.serve()
    found: dict[str, Steps] = {}
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            page = await browser.new_page(viewport={"width": 1280, "height": 800})
            await page.add_init_script(OBSERVE)
            await page.goto(f"http://127.0.0.1:{port}")
            await page.locator(".request").first.wait_for()
            devtools = await page.context.new_cdp_session(page)
            await devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

            async def cpu_ms() -> float:
                metrics = (await devtools.send("Performance.getMetrics"))["metrics"]
                return float(next(1000 * metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

            async def step(kind: str, script: str, argument: object) -> None:
                before_ms = await cpu_ms()
                await page.evaluate(script, argument)
                steps = found.setdefault(kind, Steps())
                steps.cpu.append(await cpu_ms() - before_ms)
                steps.long_tasks += await page.evaluate("longTasks.splice(0)")

            await page.evaluate("longTasks.splice(0)")  # those of loading the page
            await browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"])
            for _ in range(ROUNDS):
                for top in range(0, MAX_FLOWS * ROW_PX, STEP_PX):
                    await step("scroll", SCROLL, top)
                await page.evaluate(SCROLL, 0)
                for text in TEXTS:
                    await step("filter", FILTER, text)
                for number in range(ARRIVING):
                    inspector.request(report(number))
                await step(f"{ARRIVING} requests arrive", SCROLL, 0)
            longest_ms = longest_task_ms(await browser.stop_tracing())
            await browser.close()
    finally:
        await inspector.stop()
    return found, longest_ms


def longest_task_ms(trace: bytes) -> float:
    """Return the processor time of the longest task of a page's main thread. Args: trace: the events of the browser, as JSON."""
    events = json.loads(trace)["traceEvents"]
    main_threads = {
        (event["pid"], event["tid"]) for event in events if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = (event for event in events if event["name"].endswith("RunTask") and (event["pid"], event["tid"]) in main_threads)
    return max(float(event["tdur"]) for event in tasks if "tdur" in event) / 1000


def _long(tasks: list[float]) -> str:
    longest = f" (the longest {max(tasks):.0f} ms)" if tasks else ""
    return f"{len(tasks)} tasks of more than 50 ms of real time{longest}"


def main() -> int:
    """Print a table. Return the exit status."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        print("no browser is in PATH: install one, for example Debian's chromium", file=sys.stderr)
        return 2
    print(f"{MAX_FLOWS} requests, {ROUNDS} rounds")
    found, longest_ms = asyncio.run(measure(executable))
    for kind, steps in found.items():
        cpu = f"processor time {statistics.median(steps.cpu):.1f} ms (median), {max(steps.cpu):.1f} ms (most)"
        print(f"{kind}: {len(steps.cpu)} steps, {cpu}; {_long(steps.long_tasks)}")
    print(f"the longest of all tasks: {longest_ms:.1f} ms of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
