const form = document.querySelector("form");
const field = document.getElementById("note");
const problem = document.getElementById("problem");
const list = document.getElementById("notes");

async function show() {
  const notes = await (await fetch("/api/notes")).json();
  list.replaceChildren(...notes.reverse().map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/api/notes", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(field.value),
  });
  problem.textContent = answer.ok ? "" : await answer.text();
  if (answer.ok) {
    form.reset();
    await show();
  }
});

show();
