// The report: opens the data in the page, and draws the rows that are in sight.
//
// All rows live in columns (typed arrays). Sorting and filtering make a list of row numbers; never
// more than a few dozen rows are elements. Text reaches the page as text only: the policy of the
// page refuses markup made of strings.

const DATA_VERSION = 1;
const ROW_PX = 56;
const MOST_PX = 12_000_000; // browsers cut off elements that are much higher
const SPARE_ROWS = 4;
const PRINTED_ROWS = 200;
const FOLDERS_A_PAGE = 8;
const BARS = 50;
const STATES = "nrsfu";
const [FLAGGED, REVIEW, SAFE, FAILED] = [0, 1, 2, 3];
const VERDICTS = [
    ["nsfw", "nsfw"], ["review", "review"], ["safe", "safe"], ["no verdict", "failed"],
    ["not scanned", "quiet"],
];
const VERDICT_ORDER = [0, 1, 4, 2, 3]; // safe comes last
const WORDS = new Map([
    ["new", "not in the cache"],
    ["changed", "changed since it was scanned"],
    ["no-score", "no score is kept for it"],
]);

const at = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const several = (value, one) => `${number(value)} ${one}${value === 1 ? "" : "s"}`;

/** Return a new element with a class and text. */
function element(tag, kind = "", text = "") {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text) made.textContent = text;
    return made;
}

/** Return a score in millionths with three decimals, cut and not rounded. */
function shownScore(score) {
    return score < 0 ? "-" : (Math.floor(score / 1000) / 1000).toFixed(3);
}

/** Return paths of folders without the folders that all of them begin with. */
function shortened(folders, separator) {
    const parts = folders.map((folder) => folder.split(separator));
    let same = parts.length ? Math.min(...parts.map((one) => one.length)) : 0;
    for (const one of parts) {
        while (same && one.slice(0, same).some((part, index) => part !== parts[0][index])) same--;
    }
    if (parts.length) same = Math.min(same, ...parts.map((one) => one.length - 1));
    return parts.map((one) => one.slice(same).join(separator));
}

/** The rows as columns, and what can be asked of them. */
class Table {
    constructor(data) {
        this.data = data;
        this.count = data.count;
        this.names = data.count ? data.names.split("\n") : [];
        this.folders = data.folders;
        this.shortFolders = shortened(data.folders, data.separator);
        this.folder = new Uint32Array(data.count);
        let row = 0;
        data.folderRows.forEach((rows, folder) => {
            this.folder.fill(folder, row, row + rows);
            row += rows;
        });
        this.state = Uint8Array.from(data.states, (letter) => STATES.indexOf(letter));
        this.score = Int32Array.from(data.scores);
        this.sparse = {};
        for (const [field, {rows, values}] of Object.entries(data.sparse)) {
            this.sparse[field] = new Map(rows.map((one, index) => [one, values[index]]));
        }
        this.group = new Uint32Array(data.count); // 0: the only one
        data.copies.forEach((rows, index) => rows.forEach((one) => { this.group[one] = index + 1; }));
        this.thumbAt = [0];
        for (const length of data.thumbs.length) this.thumbAt.push(this.thumbAt.at(-1) + length);
        this.orders = new Map();
        this.lower = null;
    }

    value(field, row) {
        return this.sparse[field].get(row);
    }

    model(row) {
        return this.data.models[this.value("model", row) ?? 0];
    }

    copies(row) {
        return this.group[row] ? this.data.copies[this.group[row] - 1] : [row];
    }

    path(row) {
        const folder = this.folders[this.folder[row]], {separator} = this.data;
        return folder + (folder && !folder.endsWith(separator) ? separator : "") + this.names[row];
    }

    /** Return the address of a row's thumbnail, or null. */
    thumbnail(row) {
        const index = this.value("thumb", row);
        if (index === undefined) return null;
        const {types, type} = this.data.thumbs;
        const text = strip.substring(this.thumbAt[index], this.thumbAt[index + 1]);
        return `data:${types[type[index]]};base64,${text}`;
    }

    /** Return why a row has no verdict, or what else has to be said of its verdict. */
    why(row) {
        const reason = this.value("reason", row), detail = this.value("detail", row) ?? "";
        if (reason) return [reason, WORDS.get(reason) ?? detail];
        if (this.value("near", row)) return ["decided by a person", "for a similar picture"];
        if (this.value("by", row)) return ["decided by a person", ""];
        return this.sparse.detail.has(row) ? ["partial", detail] : ["", ""];
    }

    /** Return the numbers of all rows in an order; rows that are equal stay in the order of paths. */
    order(sort, descending) {
        const name = `${sort} ${descending}`;
        if (!this.orders.has(name)) this.orders.set(name, this.#sorted(sort, descending));
        return this.orders.get(name);
    }

    #sorted(sort, descending) {
        const {count, score, data: {scale}} = this, last = count - 1;
        if (sort === "path") {
            return Uint32Array.from(score, (_, row) => (descending ? last - row : row));
        }
        const [rank, ranks] = this.#rank(sort), keys = new Float64Array(count);
        const room = 2 ** 24, scores = 2 ** 21; // rank, score and row fit into 53 bits
        for (let row = 0; row < count; row++) {
            let key;
            if (sort !== "score") {
                const first = descending ? ranks - rank(row) : rank(row);
                key = first * scores + scale - score[row]; // then the highest score first
            } else if (score[row] < 0) key = scores; // last in either order
            else key = descending ? scale - score[row] : score[row];
            keys[row] = key * room + row;
        }
        keys.sort();
        return Uint32Array.from(keys, (key) => key % room);
    }

    /** Return a function that ranks rows, and the highest rank. */
    #rank(sort) {
        if (sort === "verdict") return [(row) => VERDICT_ORDER[this.state[row]], 4];
        if (sort === "model") {
            return [(row) => this.value("model", row) ?? 0, this.data.models.length];
        }
        if (sort !== "reason") return [() => 0, 0];
        const reasons = [...this.reasons().keys()].sort();
        return [(row) => {
            const reason = this.why(row)[0];
            return reason ? reasons.indexOf(reason) : reasons.length;
        }, reasons.length];
    }

    /** Return how many rows have each reason. */
    reasons() {
        const found = new Map(), rows = new Set();
        for (const field of ["reason", "by", "detail"]) {
            for (const row of this.sparse[field].keys()) rows.add(row);
        }
        for (const row of rows) {
            const [reason] = this.why(row);
            found.set(reason, (found.get(reason) ?? 0) + 1);
        }
        return found;
    }

    /** Return a function that says whether a row's path has all words, in any case. */
    search(query) {
        const words = query.toLowerCase().split(/\s+/).filter(Boolean);
        if (!words.length) return null;
        this.lower ??= this.names.map((name) => name.toLowerCase());
        const folders = words.map((word) => Uint8Array.from(
            this.folders, (folder) => folder.toLowerCase().includes(word)));
        return (row) => words.every((word, index) =>
            folders[index][this.folder[row]] || this.lower[row].includes(word)
            || (word.includes(this.data.separator) && this.path(row).toLowerCase().includes(word)));
    }
}

/** What is shown: filters, order, and the rows that pass. */
const view = {
    states: new Set(), query: "", score: "", reason: "", model: "", folder: -1, moved: false, grouped: true,
    sort: "verdict", descending: false, rows: new Uint32Array(0), hiddenCopies: 0,
};
/** Thresholds, in millionths: the model's own, and those that are tried. */
const trial = {model: 0, own: [0, 0], tried: [0, 0], scores: new Int32Array(0)};
let table, strip = "", chosen = -1;
const drawn = new Map();

/** Return the state that the tried thresholds give a row. */
function triedState(row) {
    const score = table.score[row], [review, flag] = trial.tried;
    return score >= flag ? FLAGGED : score >= review ? REVIEW : SAFE;
}

/** Return true if the model's score decides about a row, and the tried model is its model. */
function isTried(row) {
    return table.state[row] < FAILED && table.score[row] >= 0
        && !table.value("by", row) && (table.value("model", row) ?? 0) === trial.model;
}

/** Return true if a score is in the chosen tenth; the last one includes 1. */
function inBand(score) {
    if (view.score === "none") return score < 0;
    const tenth = Math.min(9, Math.floor((score * 10) / table.data.scale));
    return score >= 0 && tenth === Number(view.score);
}

function filter() {
    const matches = table.search(view.query), order = table.order(view.sort, view.descending);
    const seen = new Uint8Array(table.data.copies.length + 1), rows = new Uint32Array(table.count);
    let count = 0;
    view.hiddenCopies = 0;
    for (const row of order) {
        if (view.states.size && !view.states.has(table.state[row])) continue;
        if (view.folder >= 0 && table.folder[row] !== view.folder) continue;
        if (view.model && (table.value("model", row) ?? 0) !== Number(view.model)) continue;
        if (view.score && !inBand(table.score[row])) continue;
        if (view.reason && table.why(row)[0] !== view.reason) continue;
        if (view.moved && !(isTried(row) && triedState(row) !== table.state[row])) continue;
        if (matches && !matches(row)) continue;
        if (view.grouped && table.group[row]) {
            if (seen[table.group[row]]) {
                view.hiddenCopies++;
                continue;
            }
            seen[table.group[row]] = 1;
        }
        rows[count++] = row;
    }
    view.rows = rows.subarray(0, count);
}

/** Apply filters and order, and draw from the top. */
function update() {
    const kept = chosen >= 0 ? view.rows[chosen] : -1;
    filter();
    chosen = view.rows.indexOf(kept);
    if (chosen < 0) hideDetails();
    const shown = view.rows.length + view.hiddenCopies;
    const of = shown < table.count ? `${number(shown)} of ` : "";
    const copies = view.hiddenCopies ? `, ${several(view.hiddenCopies, "copy").replace("copys", "copies")} grouped` : "";
    at("count").textContent = `${of}${several(table.count, "picture")}${copies}`;
    const grid = at("grid");
    grid.setAttribute("aria-rowcount", view.rows.length + 1);
    grid.scrollTop = 0;
    at("rows").style.height = `${Math.min(MOST_PX, Math.max(view.rows.length * ROW_PX, 1))}px`;
    for (const one of drawn.values()) one.remove();
    drawn.clear();
    document.querySelector("#rows .empty")?.remove();
    if (!view.rows.length) at("rows").append(emptyElement());
    if (chosen >= 0) reveal(chosen);
    draw();
    drawControls();
}

/** Return the height of the list's part in sight, below the heads. */
function sight() {
    return at("grid").clientHeight - document.querySelector(".heads").offsetHeight;
}

/** Draw the rows in sight, reuse those that are there, and remove the others. */
function draw() {
    const grid = at("grid"), height = sight(), top = grid.scrollTop;
    const whole = Math.min(MOST_PX, view.rows.length * ROW_PX);
    const scaled = view.rows.length * ROW_PX > MOST_PX;
    const first = scaled
        ? (top / (whole - height)) * (view.rows.length - height / ROW_PX) : top / ROW_PX;
    const from = Math.max(0, Math.floor(first) - SPARE_ROWS);
    const to = Math.min(view.rows.length, Math.ceil(first + height / ROW_PX) + SPARE_ROWS);
    for (const [index, one] of drawn) {
        if (index < from || index >= to) {
            one.remove();
            drawn.delete(index);
        }
    }
    const made = document.createDocumentFragment();
    for (let index = from; index < to; index++) {
        let one = drawn.get(index);
        if (!one) {
            one = rowElement(index);
            drawn.set(index, one);
            made.append(one);
        }
        one.style.top = `${scaled ? top + (index - first) * ROW_PX : index * ROW_PX}px`;
        one.classList.toggle("chosen", index === chosen);
        one.setAttribute("aria-selected", index === chosen);
    }
    at("rows").append(made);
    if (chosen >= from && chosen < to) grid.setAttribute("aria-activedescendant", `row-${chosen}`);
    else grid.removeAttribute("aria-activedescendant");
}

/** Return a thumbnail, or an empty place for one. */
function thumbElement(row) {
    const address = table.thumbnail(row);
    const made = element(address ? "img" : "span", "thumb");
    if (address) {
        made.alt = "";
        made.src = address;
    }
    return made;
}

function cell(kind, ...children) {
    const made = element("span", kind);
    made.setAttribute("role", "gridcell");
    made.append(...children);
    return made;
}

function rowElement(index) {
    const row = view.rows[index], made = element("div", "row");
    made.id = `row-${index}`;
    made.setAttribute("role", "row");
    made.setAttribute("aria-rowindex", index + 2);
    const [label, kind] = VERDICTS[table.state[row]], [reason, detail] = table.why(row);
    const name = element("span", "", table.names[row]), copies = table.copies(row).length;
    if (view.grouped && copies > 1) name.append(element("span", "copies", `${copies} copies`));
    made.append(
        thumbElement(row),
        cell(`verdict ${kind}`, label),
        cell("score", shownScore(table.score[row])),
        cell("name", name, element("span", "quiet", table.shortFolders[table.folder[row]])),
        cell("why", element("span", "", reason), element("span", "quiet", detail)),
        cell("by quiet", table.score[row] < 0 ? "" : table.model(row).name),
    );
    return made;
}

/** Return what stands in place of rows. */
function emptyElement() {
    const made = element("div", "empty quiet");
    made.setAttribute("role", "row");
    made.setAttribute("aria-rowindex", 2);
    made.append(cell("", table.count
        ? "No picture passes these filters." : "There are no pictures."));
    return made;
}

/** Scroll so that a row is in sight. */
function reveal(index) {
    const grid = at("grid"), height = sight(), whole = Math.min(MOST_PX, view.rows.length * ROW_PX);
    const step = whole / Math.max(1, view.rows.length), top = index * step;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + ROW_PX > grid.scrollTop + height) grid.scrollTop = top + ROW_PX - height;
}

function choose(index) {
    if (!view.rows.length) return;
    chosen = Math.max(0, Math.min(view.rows.length - 1, index));
    reveal(chosen);
    draw();
    if (!at("details").hidden) showDetails();
}

function showDetails() {
    if (chosen < 0) return;
    const row = view.rows[chosen], body = at("details-body"), list = element("dl");
    const {data} = table, model = table.model(row), [reason, detail] = table.why(row);
    const say = (label, text) => {
        if (!text) return;
        const pair = element("div");
        pair.append(element("dt", "", label), element("dd", "", text));
        list.append(pair);
    };
    const [label, kind] = VERDICTS[table.state[row]];
    at("details-name").textContent = table.names[row];
    const picture = thumbElement(row);
    body.replaceChildren();
    if (picture.src) body.append(picture);
    if (picture.src && data.clear) body.append(revealButton(picture));
    body.append(element("strong", kind, label), list);
    if (table.score[row] >= 0) {
        say("score", (table.score[row] / data.scale).toFixed(6));
        say("thresholds", `review ${model.reviewAt / data.scale}, nsfw ${model.flagAt / data.scale}`);
        say("model", model.name);
    }
    say("reason", [reason, detail].filter(Boolean).join(": "));
    say("similar to", table.value("near", row));
    say("done", table.value("acts", row));
    say("folder", table.folders[table.folder[row]]);
    say("format", data.formats[data.format[row]]);
    if (data.width[row]) say("size", `${data.width[row]} × ${data.height[row]} pixels`);
    const frames = table.value("frames", row), frame = table.value("frame", row);
    if (frames) say("frames", `${frames}${frame === undefined ? "" : `, scored: ${frame + 1}`}`);
    const digits = 12, sum = data.sha256.substring(row * digits, (row + 1) * digits);
    say("SHA-256", sum.replaceAll("-", "") && `${sum}…`);
    const copies = table.copies(row).filter((one) => one !== row);
    if (copies.length) {
        say("copies", copies.slice(0, 20).map((one) => table.path(one)).join("\n"));
        if (copies.length > 20) say("", `and ${number(copies.length - 20)} more`);
    }
    at("details").hidden = false;
}

function revealButton(picture) {
    const button = element("button", "", "Reveal");
    button.type = "button";
    button.id = "reveal";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
        const shown = picture.classList.toggle("revealed");
        button.setAttribute("aria-pressed", shown);
        button.textContent = shown ? "Blur" : "Reveal";
    });
    return button;
}

function hideDetails() {
    at("details").hidden = true;
}

/** Show the state of filters and order on their controls. */
function drawControls() {
    for (const tile of document.querySelectorAll(".tile")) {
        tile.setAttribute("aria-pressed", view.states.has(STATES.indexOf(tile.dataset.state)));
    }
    for (const button of document.querySelectorAll("[data-sort]")) {
        const head = button.parentElement;
        if (button.dataset.sort !== view.sort) head.removeAttribute("aria-sort");
        else head.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
    }
    at("folder").hidden = view.folder < 0;
    if (view.folder >= 0) at("folder").textContent = `✕ ${table.shortFolders[view.folder] || "no folder"}`;
    at("moved").hidden = !view.moved;
    at("all").hidden = !(view.states.size || view.query || view.score || view.reason || view.model
        || view.folder >= 0 || view.moved);
    at("moved").textContent = "✕ Changed by the thresholds";
    at("copies").setAttribute("aria-pressed", view.grouped);
    at("search").value = view.query;
    at("score").value = view.score;
    at("reason").value = view.reason;
    at("model").value = view.model;
}

function toggleState(state) {
    if (view.states.has(state)) view.states.delete(state);
    else view.states.add(state);
    update();
}

function showAll() {
    Object.assign(view, {query: "", score: "", reason: "", model: "", folder: -1, moved: false});
    view.states.clear();
    update();
}

/** Prepare the scores of a model for the histogram. */
function tryModel(index) {
    const scores = [];
    trial.model = index;
    const model = table.data.models[index];
    trial.own = [model.reviewAt, model.flagAt];
    trial.tried = [...trial.own];
    for (let row = 0; row < table.count; row++) if (isTried(row)) scores.push(table.score[row]);
    trial.scores = Int32Array.from(scores).sort();
    at("scores").hidden = !scores.length;
    setSliders();
    drawHistogram();
    drawTrial();
}

/** Return how many scores reach each threshold: flagged, to review, safe. */
function counts([review, flag]) {
    const {scores} = trial;
    const below = (threshold) => {
        let low = 0, high = scores.length;
        while (low < high) {
            const middle = (low + high) >> 1;
            if (scores[middle] < threshold) low = middle + 1;
            else high = middle;
        }
        return low;
    };
    const flagged = scores.length - below(flag), safe = below(review);
    return [flagged, scores.length - flagged - safe, safe];
}

function setSliders() {
    const [review, flag] = trial.tried;
    at("review-at").value = review / 1000;
    at("flag-at").value = flag / 1000;
}

function slide(which, value) {
    const other = 1 - which, {tried} = trial;
    tried[which] = value * 1000;
    if (tried[0] > tried[1]) tried[other] = tried[which];
    setSliders();
    drawTrial();
    if (view.moved) update();
}

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, kind, attributes, text = "") {
    const made = document.createElementNS(SVG, tag);
    made.setAttribute("class", kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
}

/** Draw the bars; `drawTrial` colours them. */
function drawHistogram() {
    const svg = document.querySelector("#scores svg"), bars = new Uint32Array(BARS);
    for (const score of trial.scores) {
        bars[Math.min(BARS - 1, Math.floor((score / table.data.scale) * BARS))]++;
    }
    const most = Math.log1p(Math.max(...bars)) || 1;
    svg.replaceChildren(svg.querySelector("title"));
    svg.append(shape("line", "axis", {x1: 0, x2: 400, y1: 140.5, y2: 140.5}));
    for (const [place, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
        svg.append(shape("text", "", {x: place * 400, y: 155, "text-anchor": anchor}, `${place}`));
    }
    bars.forEach((one, index) => {
        const height = one ? Math.max(2, (Math.log1p(one) / most) * 106) : 0, wide = 400 / BARS;
        const bar = shape("rect", "bar", {
            x: index * wide + 0.5, y: 140 - height, width: wide - 1, height,
        });
        bar.dataset.from = (index / BARS) * table.data.scale;
        bar.append(shape("title", "", {}, several(one, "picture")));
        svg.append(bar);
    });
}

/** Draw the thresholds that are tried, and say what they would change. */
function drawTrial() {
    const svg = document.querySelector("#scores svg"), {own, tried} = trial, {scale} = table.data;
    svg.querySelectorAll(".threshold").forEach((one) => one.remove());
    for (const bar of svg.querySelectorAll(".bar")) {
        const middle = Number(bar.dataset.from) + scale / BARS / 2;
        bar.classList.toggle("nsfw", middle >= tried[1]);
        bar.classList.toggle("review", middle >= tried[0] && middle < tried[1]);
    }
    // The lower one last: its label may lie across the line of the other.
    [["nsfw", 1], ["review", 0]].forEach(([label, which]) => {
        const x = (tried[which] / scale) * 400, group = shape("g", "threshold", {});
        const left = which ? x > 320 : x > 90, y = which ? 10 : 24;
        group.append(shape("line", "at", {x1: x, x2: x, y1: y - 9, y2: 140}));
        group.append(shape("text", "", {
            x: x + (left ? -4 : 4), y, "text-anchor": left ? "end" : "start",
        }, `${label} ${tried[which] / scale}`));
        svg.append(group);
        at(which ? "flag-at-value" : "review-at-value").textContent = (tried[which] / scale).toFixed(3);
    });
    const before = counts(own), after = counts(tried);
    svg.querySelector("title").textContent = `Scores of ${several(trial.scores.length, "picture")}: `
        + `${number(after[0])} from ${tried[1] / scale} (nsfw), ${number(after[1])} from `
        + `${tried[0] / scale} (review), ${number(after[2])} below (safe).`;
    const lines = ["nsfw", "review", "safe"].map((label, state) => {
        const change = after[state] - before[state], sign = change < 0 ? "-" : "+";
        const line = element("div", "between"), text = `${number(before[state])} → ${number(after[state])}`;
        const by = change ? `${text} (${sign}${number(Math.abs(change))})` : number(after[state]);
        line.append(element("span", label, label), element("span", "", by));
        return line;
    });
    at("change").replaceChildren(...lines);
    const moved = own.some((one, which) => one !== tried[which]);
    at("change-tools").hidden = !moved;
    if (!moved && view.moved) {
        view.moved = false;
        update();
    }
}

/** Folders with flagged pictures, the highest share first. */
const folders = {ranked: [], flagged: null, page: 0};

function rankFolders() {
    const flagged = new Uint32Array(table.folders.length), {folderRows} = table.data;
    for (let row = 0; row < table.count; row++) {
        if (table.state[row] === FLAGGED) flagged[table.folder[row]]++;
    }
    const byShare = at("folders-by").value === "share";
    const rank = (one) => (byShare ? flagged[one] / folderRows[one] : flagged[one]);
    folders.flagged = flagged;
    folders.ranked = table.folders.map((_, index) => index).filter((one) => flagged[one]);
    folders.ranked.sort((one, two) => rank(two) - rank(one) || flagged[two] - flagged[one] || one - two);
    folders.page = 0;
    at("folders").hidden = !folders.ranked.length;
    drawFolders();
}

function drawFolders() {
    const from = folders.page * FOLDERS_A_PAGE, {folderRows} = table.data;
    const shown = folders.ranked.slice(from, from + FOLDERS_A_PAGE);
    document.querySelector("#folders tbody").replaceChildren(...shown.map((one) => {
        const line = element("tr"), flagged = folders.flagged[one];
        const name = table.shortFolders[one] || "no folder";
        const button = element("button", "", name.length > 28 ? `…${name.slice(-27)}` : name);
        button.type = "button";
        button.title = table.folders[one];
        button.addEventListener("click", () => {
            view.folder = one;
            update();
        });
        const head = element("td");
        head.append(button);
        const share = `${number(flagged)} (${Math.max(1, Math.round((100 * flagged) / folderRows[one]))} %)`;
        line.append(head, element("td", "", share), element("td", "", number(folderRows[one])));
        return line;
    }));
    at("pager").hidden = folders.ranked.length <= FOLDERS_A_PAGE;
    at("before").disabled = !folders.page;
    at("after").disabled = from + FOLDERS_A_PAGE >= folders.ranked.length;
    at("page").textContent = `${number(from + 1)}–${number(from + shown.length)} of ${number(folders.ranked.length)}`;
}

/** Fill a choice, and show it if there is something to choose. */
function fill(select, entries, all) {
    select.replaceChildren();
    for (const [value, text] of [["", all], ...entries]) {
        const option = element("option", "", text);
        option.value = value;
        select.append(option);
    }
}

/** Put the first rows on paper: the list on the screen holds those in sight only. */
function beforePrint() {
    const shown = [...view.rows.subarray(0, PRINTED_ROWS)], list = at("printed");
    list.replaceChildren(...shown.map((row) => {
        const [label, kind] = VERDICTS[table.state[row]], item = element("li");
        const score = table.score[row] < 0 ? "" : ` ${shownScore(table.score[row])}`;
        const why = table.why(row).filter(Boolean).join(": ");
        item.append(element("strong", kind, label), `${score} ${table.path(row)}${why ? ` (${why})` : ""}`);
        return item;
    }));
    const more = view.rows.length - shown.length;
    if (more) list.append(element("p", "", `and ${several(more, "picture")} more`));
    list.hidden = false;
}

function afterPrint() {
    at("printed").hidden = true;
    at("printed").replaceChildren();
}

const MOVES = {
    ArrowDown: () => chosen + 1, ArrowUp: () => (chosen < 0 ? 0 : chosen - 1),
    PageDown: (page) => chosen + page, PageUp: (page) => chosen - page,
    Home: () => 0, End: () => view.rows.length - 1,
};

function onKey(event) {
    const {key, target} = event;
    if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
    if (key === "Escape") {
        hideDetails();
        if (target.id === "search") at("grid").focus();
        return;
    }
    if (target.closest("input, select")) return;
    const onButton = target.closest("button");
    if (key in MOVES && (!onButton || target.closest("#grid"))) {
        choose(MOVES[key](Math.max(1, Math.floor(sight() / ROW_PX) - 1)));
        at("grid").focus({preventScroll: true});
    } else if (key === "Enter" && !onButton) {
        if (chosen < 0) choose(0);
        showDetails();
    } else if (key === "/") at("search").focus();
    else if (key === "?") at("help").showModal();
    else if (key === "0") showAll();
    else if (key >= "1" && key <= "5") toggleState(Number(key) - 1);
    else if (key.toLowerCase() === "g" && !at("copies").hidden) at("copies").click();
    else if (key.toLowerCase() === "b") at("reveal")?.click();
    else return;
    event.preventDefault();
}

function listen() {
    const on = (id, name, act) => at(id).addEventListener(name, act);
    let due = false;
    on("grid", "scroll", () => {
        if (!due) requestAnimationFrame(() => { due = false; draw(); });
        due = true;
    });
    new ResizeObserver(() => draw()).observe(at("grid"));
    on("rows", "click", (event) => {
        const one = event.target.closest(".row");
        if (!one) return;
        choose(Number(one.id.slice(4)));
        showDetails();
    });
    for (const tile of document.querySelectorAll(".tile")) {
        tile.addEventListener("click", () => toggleState(STATES.indexOf(tile.dataset.state)));
    }
    for (const button of document.querySelectorAll("[data-sort]")) {
        button.addEventListener("click", () => {
            const {sort} = button.dataset, again = sort === view.sort;
            view.descending = again ? !view.descending : sort === "score";
            view.sort = sort;
            update();
        });
    }
    on("search", "input", () => { view.query = at("search").value; update(); });
    on("score", "change", () => { view.score = at("score").value; update(); });
    on("reason", "change", () => { view.reason = at("reason").value; update(); });
    on("model", "change", () => { view.model = at("model").value; update(); });
    on("copies", "click", () => { view.grouped = !view.grouped; update(); });
    on("folder", "click", () => { view.folder = -1; update(); });
    on("all", "click", () => { showAll(); at("grid").focus(); });
    on("moved", "click", () => { view.moved = false; update(); });
    on("close", "click", () => { hideDetails(); at("grid").focus(); });
    on("keys", "click", () => at("help").showModal());
    on("help-close", "click", () => at("help").close());
    on("scores-model", "change", () => tryModel(Number(at("scores-model").value)));
    on("flag-at", "input", () => slide(1, Number(at("flag-at").value)));
    on("review-at", "input", () => slide(0, Number(at("review-at").value)));
    on("show-moved", "click", () => { view.moved = true; update(); });
    on("reset", "click", () => { trial.tried = [...trial.own]; setSliders(); drawTrial(); });
    on("folders-by", "change", rankFolders);
    on("before", "click", () => { folders.page--; drawFolders(); });
    on("after", "click", () => { folders.page++; drawFolders(); });
    document.addEventListener("keydown", onKey);
    addEventListener("beforeprint", beforePrint);
    addEventListener("afterprint", afterPrint);
}

/** Show the controls that this report needs. */
function prepare() {
    const {models} = table.data, used = [...new Set(table.sparse.model.values())].sort();
    const reasons = [...table.reasons()].sort();
    const bands = Array.from({length: 10}, (_, one) => [`${9 - one}`, `${(9 - one) / 10} to ${(10 - one) / 10}`]);
    fill(at("score"), [...bands, ["none", "no score"]], "Any score");
    fill(at("reason"), reasons.map(([one, rows]) => [one, `${one} (${number(rows)})`]), "Any reason");
    at("reason").parentElement.hidden = !reasons.length;
    if (used.length) {
        const names = [0, ...used].map((one) => [String(one), models[one].name]);
        document.body.classList.add("several-models");
        fill(at("model"), names, "Any model");
        at("model").parentElement.hidden = false;
        fill(at("scores-model"), names.slice(1), names[0][1]);
        at("which").hidden = false;
    }
    document.body.classList.toggle("clear", table.data.clear);
    at("copies").hidden = !table.data.copies.length;
}

async function load() {
    if (typeof DecompressionStream === "undefined") {
        throw new Error("it is older than Chrome 80, Firefox 113 or Safari 16.4");
    }
    const text = at("data").textContent;
    let packed;
    if (Uint8Array.fromBase64) packed = Uint8Array.fromBase64(text);
    else {
        const characters = atob(text);
        packed = new Uint8Array(characters.length);
        for (let one = 0; one < packed.length; one++) packed[one] = characters.charCodeAt(one);
    }
    const open = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const data = await new Response(open).json();
    if (data.version !== DATA_VERSION) throw new Error("its data are of another version");
    return data;
}

try {
    const data = await load();
    strip = at("strip").textContent;
    // In steps, so that the page answers in between.
    for (const step of [
        () => { table = new Table(data); }, () => table.order(view.sort, view.descending),
        prepare, listen, update, rankFolders, () => tryModel(0),
    ]) {
        await new Promise((resolve) => setTimeout(resolve));
        step();
    }
} catch (error) {
    at("trouble").textContent = `This browser cannot open the list: ${error.message}.`;
    at("trouble").hidden = false;
}
at("grid").setAttribute("aria-busy", "false");
