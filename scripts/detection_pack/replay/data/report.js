"use strict";
// Everything out of the data block goes into the page as text: createElement, textContent, never markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { strings, rules, ran, columns, more, rule, seen, fields } = data;
  const total = rule.length;
  const PAGE = 100, PRINTED = 1000;
  const time = fields[0], user = fields[1];
  const titles = [...$("f-platform").options].slice(1).map((one) => one.textContent);
  const seenText = (bits) => titles.filter((_, at) => bits & (1 << at)).join(", ");
  // Where a rule ran on several platforms and all of them see the hit, that is said in short.
  const count = (bits) => titles.filter((_, at) => bits & (1 << at)).length;
  const seenShort = (hit) => {
    const all = ran[rule[hit]];
    return seen[hit] === all && count(all) > 1 ? `all ${count(all)}` : seenText(seen[hit]);
  };
  // "2026-03-10 09:15:00", the zone being UTC everywhere; what is written otherwise stays as it is.
  const plainTime = (text) => text.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d+)?)(?:Z|\+00:00)$/, "$1 $2");
  const numbers = new Intl.NumberFormat("en");
  const lower = strings.map((text) => text.toLowerCase());
  let ranks = null;
  const state = { sort: "time", down: false, page: 0, size: PAGE };
  let shown = new Uint32Array(0);

  const make = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  // What is shown of a hit. `at` is the place of the field; the rule and the platforms are numbers.
  const HEADS = [
    { key: "time", title: "Time", text: (hit) => plainTime(strings[time[hit]]) },
    { key: "rule", title: "Rule", text: (hit) => rules[rule[hit]] },
    { key: "f5", at: 5, title: "What" },
    { key: "f1", at: 1, title: "User" },
    { key: "f2", at: 2, title: "Address" },
    { key: "f3", at: 3, title: "Application" },
    { key: "seen", title: "Platforms", text: seenShort },
  ];
  for (const head of HEADS) if (head.at) head.text = (hit) => strings[fields[head.at][hit]];

  // The place of each text in the order of all of them, so that sorting compares numbers.
  const rankOf = () => {
    if (ranks) return ranks;
    const order = Uint32Array.from(strings, (_, at) => at);
    order.sort((a, b) => (lower[a] < lower[b] ? -1 : lower[a] > lower[b] ? 1 : a - b));
    ranks = new Uint32Array(strings.length);
    order.forEach((at, place) => { ranks[at] = place; });
    return ranks;
  };
  const keys = () => {
    const head = HEADS.find((one) => one.key === state.sort);
    if (head.key === "rule") {
      const order = rules.map((_, at) => at).sort((a, b) => (rules[a] < rules[b] ? -1 : 1));
      const place = []; order.forEach((at, n) => { place[at] = n; });
      return (hit) => place[rule[hit]];
    }
    if (head.key === "seen") return (hit) => seen[hit];
    const rank = rankOf();
    return (hit) => rank[fields[head.at][hit]];
  };

  const matching = (needle) => {
    const found = new Uint8Array(strings.length);
    for (let at = 0; at < strings.length; at++) if (lower[at].includes(needle)) found[at] = 1;
    return found;
  };

  const select = () => {
    const search = $("f-search").value.trim().toLowerCase();
    const wanted = $("f-user").value.trim().toLowerCase();
    const one = $("f-rule").value, platform = $("f-platform").value;
    const inText = search ? matching(search) : null;
    const inUser = wanted ? matching(wanted) : null;
    const inRule = search ? rules.map((name) => name.toLowerCase().includes(search)) : null;
    const bit = platform === "" ? 0 : 1 << Number(platform);
    const found = new Uint32Array(total);
    let n = 0;
    for (let hit = 0; hit < total; hit++) {
      if (one !== "" && rule[hit] !== Number(one)) continue;
      if (bit && !(seen[hit] & bit)) continue;
      if (inUser && !inUser[user[hit]]) continue;
      if (inText && !inRule[rule[hit]]) {
        let hits = false;
        for (let at = 0; at < fields.length && !hits; at++) hits = inText[fields[at][hit]] === 1;
        if (!hits) continue;
      }
      found[n++] = hit;
    }
    shown = found.slice(0, n);
    if (state.sort !== "time") {
      const key = keys();
      shown.sort((a, b) => key(a) - key(b) || a - b);
    }
    if (state.down) shown.reverse();
    state.page = 0;
    draw();
  };

  const describe = (hit) => {
    const list = make("dl");
    const put = (name, text) => { if (text) list.append(make("dt", name), make("dd", text)); };
    put("rule", rules[rule[hit]]);
    put("time", strings[time[hit]]);
    columns.forEach((name, at) => put(name, strings[fields[1 + at][hit]]));
    more.forEach((name, at) => put(name, strings[fields[1 + columns.length + at][hit]]));
    put("platforms", seenText(seen[hit]));
    return list;
  };

  const row = (hit, at) => {
    const line = make("tr");
    const opener = make("button", "+", "more");
    opener.type = "button";
    opener.setAttribute("aria-expanded", "false");
    opener.setAttribute("aria-label", `All of hit ${at + 1}`);
    opener.addEventListener("click", () => {
      const open = opener.getAttribute("aria-expanded") === "true";
      opener.setAttribute("aria-expanded", String(!open));
      opener.textContent = open ? "+" : "−";
      if (open) { line.nextElementSibling.remove(); return; }
      const inner = make("tr"), cell = make("td", undefined, "all");
      cell.colSpan = HEADS.length + 1;
      cell.append(describe(hit));
      inner.append(cell);
      line.after(inner);
    });
    const first = make("td");
    first.append(opener);
    line.append(first);
    for (const head of HEADS) {
      const text = head.text(hit), cell = make("td", text || "–");
      if (text.length > 20) cell.title = text;
      line.append(cell);
    }
    return line;
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(shown.length / state.size));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const from = state.page * state.size, to = Math.min(from + state.size, shown.length);
    const body = document.createDocumentFragment();
    for (let at = from; at < to; at++) body.append(row(shown[at], at));
    if (!shown.length) {
      const cell = make("td", total ? "No hit fits these filters." : "Nothing fired.");
      cell.colSpan = HEADS.length + 1;
      const line = make("tr"); line.append(cell); body.append(line);
    }
    $("table").tBodies[0].replaceChildren(body);
    const of = shown.length === total ? "" : ` of ${numbers.format(total)}`;
    const many = shown.length === total ? total : shown.length;
    $("count").textContent = `${numbers.format(many)}${of} hit${total === 1 ? "" : "s"}`;
    $("p-now").textContent = shown.length ? `${numbers.format(from + 1)}–${numbers.format(to)}` : "0";
    $("p-first").disabled = $("p-back").disabled = state.page === 0;
    $("p-next").disabled = $("p-last").disabled = state.page === pages - 1;
    for (const cell of $("table").tHead.rows[0].cells) {
      if (!cell.dataset.key) continue;
      if (cell.dataset.key === state.sort) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  };

  const say = (text) => { $("said").textContent = text; };
  const copy = async (text, said) => {
    try {
      await navigator.clipboard.writeText(text);
      say(said);
      return true;
    } catch {
      const area = make("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      say(done ? said : "This browser did not let the page copy.");
      return done;
    }
  };
  // A cell that a spreadsheet would compute becomes text.
  const cell = (text) => {
    // Where a semicolon divides cells, what follows one begins a cell, too.
    const safe = text.replace(/(^|;)(\s*)(?=[=+\-@＝＋－＠])/g, "$1'$2");
    return `"${safe.replaceAll('"', '""')}"`;
  };
  const csv = () => {
    const lines = [["rule", "time", ...columns, ...more, "platforms"].map(cell).join(",")];
    for (const hit of shown) {
      const texts = [rules[rule[hit]], ...fields.map((field) => strings[field[hit]]), seenText(seen[hit])];
      lines.push(texts.map(cell).join(","));
    }
    return `${lines.join("\r\n")}\r\n`;
  };

  const header = $("table").tHead.rows[0];
  const empty = make("th");
  empty.append(make("span", "", "name"));
  empty.setAttribute("aria-label", "All of a hit");
  header.append(empty);
  for (const head of HEADS) {
    const named = make("th"), button = make("button", head.title);
    named.scope = "col";
    named.dataset.key = head.key;
    button.type = "button";
    button.addEventListener("click", () => {
      state.down = state.sort === head.key ? !state.down : false;
      state.sort = head.key;
      select();
    });
    named.append(button);
    header.append(named);
  }

  let waiting = 0;
  for (const id of ["f-search", "f-user"]) {
    $(id).addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(select, 120); });
  }
  for (const id of ["f-rule", "f-platform"]) $(id).addEventListener("change", select);
  const form = $("f-reset").form;
  form.addEventListener("submit", (event) => { event.preventDefault(); select(); });
  form.addEventListener("reset", () => setTimeout(select, 0));
  const go = (page) => { state.page = page; draw(); };
  $("p-first").addEventListener("click", () => go(0));
  $("p-back").addEventListener("click", () => go(state.page - 1));
  $("p-next").addEventListener("click", () => go(state.page + 1));
  $("p-last").addEventListener("click", () => go(Infinity));
  $("copy-csv").addEventListener("click", () => copy(csv(), `Copied ${numbers.format(shown.length)} hits.`));
  for (const button of document.querySelectorAll("[data-query]")) {
    button.addEventListener("click", async () => {
      const done = await copy(data.queries[Number(button.dataset.query)], "Copied the query.");
      button.textContent = done ? "Copied" : "Not copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
  const jump = (id, value) => {
    form.reset();
    $(id).value = value;
    select();
    $("hits").scrollIntoView();
    $(id).focus({ preventScroll: true });
  };
  for (const [name, id] of [["rule", "f-rule"], ["user", "f-user"], ["search", "f-search"]]) {
    for (const button of document.querySelectorAll(`button[data-${name}]`)) {
      button.addEventListener("click", () => jump(id, button.dataset[name]));
    }
  }
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    $("f-search").focus();
  });
  // On paper: the hits that fit the filters, up to a number that a printer should bear.
  addEventListener("beforeprint", () => { state.size = PRINTED; go(0); });
  addEventListener("afterprint", () => { state.size = PAGE; go(0); });
  select();
})();
