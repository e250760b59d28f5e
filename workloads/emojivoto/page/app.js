// The page of role web: it lists the emoji, votes and shows the leaderboard.
// Everything comes from the /api of the same host.
"use strict";

const main = document.getElementById("main");
const note = document.getElementById("status");

function say(text, bad) {
  note.textContent = text;
  note.className = bad ? "bad" : "";
}

// ask returns the body of an answer and throws what the server said otherwise.
async function ask(path) {
  const response = await fetch(path);
  const text = await response.text();
  if (response.ok) return text === "" ? null : JSON.parse(text);
  let reason = text;
  try { reason = JSON.parse(text).error; } catch { /* a mesh's denial has no JSON body */ }
  throw new Error(`${response.status} ${reason}`.trim());
}

function element(tag, text, parent) {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
}

async function showChoices() {
  const list = document.createElement("div");
  list.id = "choices";
  for (const emoji of await ask("/api/list")) {
    const button = element("button", emoji.unicode, list);
    button.title = button.ariaLabel = emoji.shortcode;
    button.onclick = () => vote(emoji);
  }
  main.replaceChildren(list);
}

async function vote(emoji) {
  try {
    await ask("/api/vote?choice=" + encodeURIComponent(emoji.shortcode));
    say(`You voted for ${emoji.unicode}`);
  } catch (error) {
    say(`Your vote for ${emoji.unicode} was not counted: ${error.message}`, true);
  }
}

async function showLeaderboard() {
  const table = document.createElement("table");
  const head = element("tr", "", table);
  for (const title of ["Emoji", "Name", "Votes"]) element("th", title, head);
  for (const line of await ask("/api/leaderboard")) {
    const row = element("tr", "", table);
    element("td", line.unicode, row);
    element("td", line.shortcode, row);
    element("td", line.votes, row).className = "votes";
  }
  main.replaceChildren(table);
}

(location.pathname === "/leaderboard" ? showLeaderboard() : showChoices()).catch(
  (error) => say(`The list could not be loaded: ${error.message}`, true));
