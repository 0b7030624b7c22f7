// Shows the run that the address names, from its beginning to its end, over cuts of the connection.
// The key is taken from the address's fragment (#key=af_…), which is sent to nobody, or asked for; or there is a session.
"use strict";

const run = location.pathname.split("/").pop();
const show = (id, text) => { document.getElementById(id).textContent = text; };
const state = (name) => { document.body.dataset.state = name; show("state", name); };
const MOST = 1000; // events on the page
const MOST_PAUSE = 5000; // milliseconds

let key = new URLSearchParams(location.hash.slice(1)).get("key");
history.replaceState(null, "", location.pathname); // the key does not stay in the address bar
let last = null, count = 0, pause = 250, over = false;

function connect() {
  state("connecting");
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  const send = (message) => socket.send(JSON.stringify(message));
  socket.onopen = () => {
    if (key) send({ type: "authenticate", key });
    else setTimeout(() => { if (document.body.dataset.state === "connecting") ask(socket); }, 1000);
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "welcome") send({ type: "subscribe", channel: `run:${run}`, ...(last ? { after: last } : {}) });
    else if (message.type === "subscribed") { state("live"); pause = 250; }
    else if (message.type === "event") add(message);
    else if (message.type === "over") { over = true; state("over"); socket.close(1000); }
    else if (message.type === "error") { show("state", message.data.detail); if (message.data.status === 404) over = true; }
  };
  socket.onclose = ({ code, reason }) => {
    if (over || document.body.dataset.state === "asking") return;
    if (code === 4401 || code === 4403) { ask(); if (key) show("state", reason); return; }
    setTimeout(connect, pause);
    pause = Math.min(pause * 2, MOST_PAUSE);
  };
}

function add({ id, data }) {
  last = id;
  show("count", ++count);
  if (data.kind === "run") show("status", data.status);
  const line = document.createElement("li");
  line.value = count;
  line.textContent = [data.at, data.kind, data.title ?? "", data.status ?? "", data.error ?? ""].filter(Boolean).join("  ");
  const list = document.getElementById("events");
  list.append(line);
  if (list.children.length > MOST) list.firstChild.remove();
}

function ask(socket) {
  state("asking");
  socket?.close(1000);
  document.getElementById("sign-in").hidden = false;
}

document.getElementById("sign-in").onsubmit = (submitted) => {
  submitted.preventDefault();
  key = document.getElementById("key").value.trim();
  document.getElementById("sign-in").hidden = true;
  connect();
};
show("run", run);
connect();
