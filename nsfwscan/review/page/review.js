// The page of `nsfwscan review`: shows one picture at a time and sends what the person decides.
//
// Pictures are fetched, not linked: they are not kept by the browser, the next three are there
// before they are wanted, and every request carries the key that only this page knows. Text is set
// with `textContent`, so a file name is never markup.

const AHEAD = 3, BEHIND = 1, TRIES = 4, PAUSE_MS = 250, SETTLE_MS = 80;
const WORDS = {nsfw: "Flagged", review: "Review", safe: "Safe"};
const DONE = {allowed: "Safe", denied: "Not safe"};

const $ = (id) => document.getElementById(id);
const key = takeKey();
let data, pictures = new Map(), order = [], at = 0;
let filter = "open", shown = null, turn = 0, over = false, settling = 0;
let rulings = new Map(), quarantined = new Set(), steps = 0;
let sending = Promise.resolve(), waiting = 0, lost = 0;
const loads = new Map();

function takeKey() {
    // The address is not kept in the history.
    if (location.hash.length > 1) {
        sessionStorage.setItem("key", location.hash.slice(1));
        history.replaceState(null, "", "/");
    }
    return sessionStorage.getItem("key") ?? "";
}

function element(name, text = "", className = "") {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
}

const ask = (path, options = {}) =>
    fetch(`/api/${path}`, {...options, headers: {"x-review-key": key}});

const count = (number, one, many = `${one}s`) =>
    `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// Cut and not rounded, as everywhere in nsfwscan: 0.7999 is below 0.8.
const cut = (score) => (Math.floor(score * 1000 + 1e-9) / 1000).toFixed(3);

const current = () => pictures.get(order[at]);
const isDone = (id) => rulings.has(id) || quarantined.has(id);
const name = (one) => one.places[0][1];

function say(text, isBad = false) {
    $("message").textContent = text;
    $("message").classList.toggle("bad", isBad);
}

// Pictures

function load(id, size) {
    const what = `${id}/${size}`;
    let one = loads.get(what);
    if (!one) {
        const stop = new AbortController();
        const ready = ask(`picture/${what}`, {signal: stop.signal}).then(async (answer) => {
            if (!answer.ok) {
                const isJson = answer.headers.get("content-type")?.includes("json");
                throw new Error(isJson ? (await answer.json()).gone : "It cannot be shown.");
            }
            return URL.createObjectURL(await answer.blob());
        });
        one = {ready, stop};
        ready.catch(() => {
            if (loads.get(what) === one) loads.delete(what);  // it is tried again the next time
        });
        loads.set(what, one);
    }
    return one.ready;
}

function drop(what) {
    const one = loads.get(what);
    loads.delete(what);
    one.stop.abort();
    one.ready.then(URL.revokeObjectURL, () => {});
}

function prefetch() {
    const near = order.slice(Math.max(0, at - BEHIND), at + AHEAD + 1);
    const alike = new Set(current()?.alike ?? []);
    for (const what of [...loads.keys()]) {
        const [id, size] = what.split("/");
        if (size === "small" ? !alike.has(id) : !near.includes(id)) drop(what);
    }
    for (const id of order.slice(at + 1, at + AHEAD + 1)) load(id, "large").catch(() => {});
}

async function show(size = "large") {
    const one = current(), mine = ++turn;
    const image = $("image");
    if (!one) return;
    try {
        const url = await load(one.id, size);
        if (mine !== turn) return;
        image.src = url;
        await image.decode();
        if (mine !== turn) return;
        image.hidden = false;
        card(null);
        if (document.body.classList.contains("zoomed")) centre();
        shown = one.id;
        $("picture").dataset.shown = one.id;
        $("live").textContent = `${name(one)}: ${$("verdict").textContent}. ${at + 1} of ` +
            `${order.length}.`;
    } catch (error) {
        if (mine !== turn || error.name === "AbortError") return;
        image.hidden = true;
        card(`${name(one)} cannot be shown`, `${error.message} Press → to go on.`);
    }
    prefetch();
    showAlike(one, mine);
}

function showAlike(one, mine) {
    const list = $("alike-pictures");
    list.replaceChildren();
    for (const id of one.alike) {
        const other = pictures.get(id);
        const item = element("li"), image = element("img");
        image.alt = name(other);
        item.dataset.id = id;
        item.title = other.places.map((place) => place.join("/")).join("\n");
        const frame = element("div");
        frame.append(image);
        item.append(frame, element("span", name(other)));
        list.append(item);
        load(id, "small").then((url) => {
            if (mine !== turn) return;
            image.src = url;
            item.dataset.shown = "";  // only what was shown is decided with it
        }, (error) => {
            if (error.name !== "AbortError") item.lastChild.textContent = `${name(other)}: gone`;
        });
    }
}

function card(title, text = "") {
    $("card").hidden = title === null;
    $("picture").hidden = title !== null;
    if (title !== null) {
        $("card-title").textContent = title;
        $("card-text").textContent = text;
    }
}

function reveal(clear) {
    $("picture").setAttribute("aria-pressed", String(clear));
    document.body.classList.toggle("clear", clear);
    const one = current();
    if (one) $("image").alt = clear ? name(one) : `${name(one)}, blurred`;
    const button = document.querySelector("[data-do=reveal]");
    button.firstChild.data = clear ? "Blur " : "Reveal ";
}

function zoom(on) {
    const was = document.body.classList.toggle("zoomed", on);
    document.querySelector("[data-do=zoom]").setAttribute("aria-pressed", String(was));
    return was;
}

function centre() {
    const box = $("picture");
    box.scrollTo((box.scrollWidth - box.clientWidth) / 2,
                 (box.scrollHeight - box.clientHeight) / 2);
}

function pan(across, down) {
    const box = $("picture");
    box.scrollBy(across * box.clientWidth / 4, down * box.clientHeight / 4);
}

// What is known about a picture

function describe(one) {
    const ruling = rulings.get(one.id);
    const verdict = $("verdict");
    verdict.replaceChildren(element("b", WORDS[one.decision], one.decision));
    verdict.append(` score ${cut(one.score)}`);
    if (ruling) verdict.append(element("span", `You: ${DONE[ruling]}`, "yours"));
    if (quarantined.has(one.id)) verdict.append(element("span", "In quarantine", "yours"));
    $("name").textContent = name(one);
    const scale = $("scale");
    scale.setAttribute("aria-label", `Score ${cut(one.score)} from 0 to 1; ` +
        `review from ${cut(data.reviewAt)}, flagged from ${cut(data.flagAt)}`);
    [data.reviewAt, data.flagAt, one.score].forEach((value, index) => {
        scale.children[index].style.setProperty("--at", value);
    });
    $("thresholds").textContent = `${data.model}: review from ${cut(data.reviewAt)}, ` +
        `flagged from ${cut(data.flagAt)}`;
    $("notes").replaceChildren(...notes(one).map((text) => element("p", text)));
    const labels = data.labels
        .map((label, index) => [label, one.probabilities[index]])
        .sort((a, b) => b[1] - a[1]);
    $("labels").replaceChildren(...labels.map(([label, share]) => {
        const item = element("li", label), bar = element("i");
        bar.style.setProperty("--at", share);
        if (data.unsafeLabels.includes(label)) item.className = "unsafe";
        item.append(element("span", cut(share)), bar);
        return item;
    }));
    $("where-title").textContent =
        one.places.length === 1 ? "Where" : `Where: ${count(one.places.length, "copy", "copies")}`;
    $("places").replaceChildren(...one.places.map(([folder, file]) => {
        const item = element("li", file);
        item.append(element("span", folder));
        return item;
    }));
    $("alike").hidden = !one.alike.length;
    $("alike-title").textContent = `${count(one.alike.length, "look-alike")}`;
    $("alike-text").textContent = one.alike.length === 1
        ? "Decide about it, too" : "Decide about them, too";
}

function notes(one) {
    const found = [];
    if (one.frames > 1) {
        const which = one.frame === null ? 1 : one.frame + 1;
        found.push(`Animation: frame ${which} of ${one.frames}, the least safe one.`);
    }
    if (one.missing) found.push(`Damaged: ${one.missing}`);
    if (one.near) found.push(`Decided because it looks like ${one.near}.`);
    for (const other of one.others) {
        const word = WORDS[other.decision].toLowerCase();
        const but = one.disputed ? "But " : "";
        found.push(`${but}${other.model}: ${word}, score ${cut(other.score)}.`);
    }
    if (one.moreAlike) {
        found.push(`${count(one.moreAlike, "more look-alike")}: decide about them one by one.`);
    }
    return found;
}

// Where we are

const inFilter = {
    open: (one) => !isDone(one.id) && (one.decision !== "safe" || one.disputed),
    nsfw: (one) => one.decision === "nsfw",
    review: (one) => one.decision === "review",
    done: (one) => isDone(one.id),
};

function matches(one) {
    const folder = $("folder").value;
    return one.score >= Number($("least").value || 0) && one.score <= Number($("most").value || 1)
        && (!$("disputed").checked || one.disputed)
        && (!folder || one.places.some(([where]) => isBelow(where, folder)));
}

const isBelow = (where, folder) =>
    where === folder || where.startsWith(folder) && "/\\".includes(where[folder.length]);

function choose(next = filter) {
    const before = order[at];
    filter = next;
    order = data.pictures.filter((one) => matches(one) && inFilter[filter](one))
        .map((one) => one.id);
    go(Math.max(0, order.indexOf(before)));
}

function tally() {
    for (const button of document.querySelectorAll("[data-filter]")) {
        const which = button.dataset.filter;
        const number = data.pictures.filter((one) => matches(one) && inFilter[which](one)).length;
        button.querySelector("b").textContent = number.toLocaleString("en");
        button.setAttribute("aria-pressed", String(which === filter));
    }
    const place = at < order.length ? `${at + 1} of ${count(order.length, "picture")}` : "";
    $("progress").textContent = place || count(order.length, "picture");
    const one = current();
    document.body.classList.toggle("empty", !one);
    document.querySelector("[data-do=undo]").disabled = !steps && !waiting;
}

function go(to, isHeld = false) {
    at = Math.min(Math.max(0, to), order.length);
    turn++;
    shown = null;
    delete $("picture").dataset.shown;
    $("image").hidden = true;
    reveal(false);  // before another picture is there
    zoom(false);
    tally();
    clearTimeout(settling);
    const one = current();
    if (!one) {
        atEnd();
        return;
    }
    card(null);
    describe(one);
    $("alike-pictures").replaceChildren();
    // While a key is held, only pictures that are there already are shown.
    if (isHeld && !loads.has(`${one.id}/large`)) settling = setTimeout(show, SETTLE_MS);
    else show();
}

function atEnd() {
    prefetch();
    const left = data.pictures.filter((one) => inFilter.open(one)).length;
    if (!order.length) {
        card("No picture here", "Choose another filter above.");
    } else if (left) {
        card("The end of this list", `${count(left, "picture")} still to decide: press 1.`);
    } else {
        const none = data.withoutVerdict
            ? ` ${count(data.withoutVerdict, "file")} without a verdict cannot be shown here.` : "";
        card("All decided", `You can close this page.${none}`);
    }
}

function goOn() {
    let to = at + 1;
    while (to < order.length && isDone(order[to])) to++;
    go(to);
}

// What the person does

function send(path, body, then) {
    const text = JSON.stringify({request: crypto.randomUUID(), ...body});
    wait(1);
    // One after the other: undo must not overtake what it undoes.
    sending = sending.then(async () => {
        const answer = await post(path, text);
        lost = answer ? 0 : lost + (path !== "folder");
        if (over) end();
        else then(answer ?? {refused: "`nsfwscan review` does not answer. Try again."});
        wait(-1);
        if (!over) tally();
    });
}

function wait(more) {
    waiting += more;
    document.body.dataset.waiting = String(waiting);
}

async function post(path, body) {
    for (let left = TRIES - 1; ; left--) {
        try {
            // Sent to the end even if the page is closed. Twice is once: `request` tells.
            const answer = await ask(path, {method: "POST", body, keepalive: true});
            if (answer.headers.get("content-type")?.includes("json")) return await answer.json();
            // A server that ends before the deed does says 500, and the deed may be done.
            return answer.status === 500 ? null : {refused: await answer.text()};
        } catch {
            if (!left) return null;
            await new Promise((go_on) => setTimeout(go_on, PAUSE_MS));
        }
    }
}

function apply(answer) {
    for (const [id, ruling] of Object.entries(answer.rulings ?? {})) {
        if (ruling) rulings.set(id, ruling);
        else rulings.delete(id);
    }
    for (const [id, isThere] of Object.entries(answer.quarantined ?? {})) {
        if (isThere) quarantined.add(id);
        else quarantined.delete(id);
    }
    steps = answer.steps ?? steps;
}

function alikeShown() {
    const there = $("with-alike").checked ? "#alike-pictures [data-shown]" : "none";
    return [...document.querySelectorAll(there)].map((one) => one.dataset.id);
}

function isReady() {
    if (shown !== null && shown === current()?.id) return true;
    say(current() ? "Wait until the picture is on the screen." : "There is no picture here.");
    return false;
}

function decide(ruling) {
    if (!isReady()) return;
    const one = current(), also = alikeShown();
    const free = [one.id, ...also.filter((id) => !rulings.has(id))];
    const before = free.map((id) => [id, rulings.get(id) ?? null]);
    // Shown as decided now; what the command answers counts.
    apply({rulings: Object.fromEntries(free.map((id) => [id, ruling]))});
    const others = free.length > 1 ? `, with ${count(free.length - 1, "look-alike")}` : "";
    say(`${name(one)}: ${DONE[ruling].toLowerCase()}${others}.`);
    send("decide", {id: one.id, ruling, also}, (answer) => {
        if (answer.refused) {
            apply({rulings: Object.fromEntries(before)});
            refused(one, answer);
            return;
        }
        apply(answer);
        if (answer.problems.length) say(answer.problems.join(" "), true);
    });
    goOn();
}

function quarantine() {
    if (!isReady()) return;
    const one = current(), also = alikeShown().filter((id) => !quarantined.has(id));
    if (quarantined.has(one.id)) {
        say(`${name(one)} is in quarantine already.`);
        return;
    }
    const away = (isThere) =>
        apply({quarantined: Object.fromEntries([one.id, ...also].map((id) => [id, isThere]))});
    say(`Moving ${name(one)} …`);
    away(true);  // what the command answers counts
    send("quarantine", {id: one.id, also}, (answer) => {
        away(false);
        if (answer.refused) {
            refused(one, answer);
            return;
        }
        apply(answer);
        say([`${count(answer.files, "file")} moved to quarantine.`, ...answer.problems].join(" "),
            answer.problems.length > 0);
    });
    goOn();
}

function refused(one, answer) {
    visit(one.id);
    say(`${name(one)}: ${answer.refused}${answer.hint ? ` (${answer.hint})` : ""}`, true);
}

function visit(id) {
    let to = order.indexOf(id);
    if (to < 0 && data.pictures.some((one) => one.id === id)) {
        to = at;
        order.splice(at, 0, id);
    }
    if (to >= 0) go(to);
}

function undo() {
    send("undo", {}, (answer) => {
        if (answer.refused) {
            say(`Not undone: ${answer.refused}`, true);
        } else if (!answer.done) {
            say("There is nothing to undo.");
        } else {
            apply(answer);
            visit(answer.id);
            const others = answer.contents.length - 1;
            const rest = others ? ` and ${count(others, "look-alike")}` : "";
            const what = answer.done === "quarantined" ? "Restored" : "Undone";
            const text = `${what}: ${name(pictures.get(answer.id))}${rest}.`;
            say([text, ...answer.problems].join(" "), answer.problems.length > 0);
        }
    });
}

function openFolder() {
    const one = current();
    if (!one) return;
    send("folder", {id: one.id}, (answer) =>
        say(answer.refused ?? `Opened ${answer.done}.`, Boolean(answer.refused)));
}

const DEEDS = {
    back: (isHeld) => go(at - 1, isHeld),
    next: (isHeld) => go(at + 1, isHeld),
    undo,
    safe: () => decide("allowed"),
    deny: () => decide("denied"),
    quarantine,
    folder: openFolder,
    reveal: () => reveal(!document.body.classList.contains("clear")),
    zoom: () => show(zoom() ? "zoom" : "large"),
    help: () => $("keys").open ? $("keys").close() : $("keys").showModal(),
    alike: () => $("with-alike").click(),
    ...Object.fromEntries(Object.keys(inFilter).map((one) => [one, () => choose(one)])),
};
const KEYS = {
    s: "safe", p: "safe", x: "deny", u: "undo", " ": "next", ArrowRight: "next", ArrowLeft: "back",
    z: "zoom", b: "reveal", q: "quarantine", o: "folder", l: "alike", "?": "help",
    1: "open", 2: "nsfw", 3: "review", 4: "done",
};
const PAN = {ArrowUp: [0, -1], ArrowDown: [0, 1], "+ArrowLeft": [-1, 0], "+ArrowRight": [1, 0]};
const MAY_REPEAT = new Set(["next", "back", "undo"]);

function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || over || !data) return;
    const way = PAN[(event.shiftKey ? "+" : "") + event.key];
    if (way && document.body.classList.contains("zoomed") && !$("keys").open) {
        event.preventDefault();
        pan(...way);
        return;
    }
    const deed = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const target = event.target;
    if ($("keys").open && deed !== "help") return;
    if (event.key === "Escape") toPicture();
    if (!deed || target.matches("select, input:not([type=checkbox])")) return;
    // The space bar presses a button that was reached with Tab; on the picture it goes on.
    if (event.key === " " && target.matches("button:not(#picture), input, summary")) return;
    event.preventDefault();
    if (!event.repeat || MAY_REPEAT.has(deed)) DEEDS[deed](event.repeat);
}

function toPicture() {
    document.activeElement?.blur();  // there may be no picture to go to
    $("picture").focus({preventScroll: true});
}

function listen() {
    document.addEventListener("keydown", press);
    document.addEventListener("click", (event) => {
        const button = event.target.closest("[data-do], [data-filter], #help, #picture");
        if (!button || button.disabled) return;
        const {do: what, filter: which} = button.dataset;
        const deed = what ?? which ?? (button.id === "help" ? "help" : "reveal");
        DEEDS[deed](false);
        // After a click with the mouse, the space bar must not press that button again.
        if (event.detail && deed !== "help") toPicture();
    });
    $("filters").addEventListener("input", () => choose());
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("keys").addEventListener("close", toPicture);
    addEventListener("beforeunload", (event) => {
        if (waiting) event.preventDefault();  // what waits behind a long move would not be sent
    });
}

// While this request is open, the command knows that the page is.
async function stay() {
    for (let left = TRIES; left; left--) {
        try {
            const answer = await ask("present");
            if (!answer.ok) break;
            left = TRIES;
            const reader = answer.body.getReader();
            while (!(await reader.read()).done);
        } catch {
            await new Promise((go_on) => setTimeout(go_on, PAUSE_MS));
        }
    }
    end();
}

function end() {
    over = true;
    turn++;
    document.body.classList.add("over", "empty");
    const except = lost ? `, except perhaps the last ${lost === 1 ? "step" : `${lost} steps`}` : "";
    card("The review has ended", `What you decided is stored${except}. You can close this page.`);
    say("");
}

function fill() {
    const folders = new Map();
    for (const one of data.pictures) {
        for (const folder of new Set(one.places.map(([where]) => where))) {
            folders.set(folder, (folders.get(folder) ?? 0) + 1);
        }
    }
    const every = element("option", `All (${data.pictures.length})`);
    every.value = "";
    $("folder").replaceChildren(every, ...[...folders].sort().map(([folder, number]) => {
        const option = element("option", `${folder} (${number})`);
        option.value = folder;
        return option;
    }));
    $("disputes").hidden = !data.pictures.some((one) => one.others.length);
}

async function start() {
    const answer = await ask("pictures");
    if (!answer.ok) {
        document.body.classList.add("over", "empty");
        card("This page is not open here",
             "Go back to the window that the command opened, or start `nsfwscan review` again.");
        return;
    }
    data = await answer.json();
    for (const one of [...data.companions, ...data.pictures]) pictures.set(one.id, one);
    apply({...data, quarantined: Object.fromEntries(data.quarantined.map((id) => [id, true]))});
    fill();
    listen();
    stay();
    wait(0);
    choose();
    toPicture();
}

start();
