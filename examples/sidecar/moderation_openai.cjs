// The official `openai` SDK for Node, pointed at throughline. `npm install openai`, and run `throughline serve`.
const OpenAI = require("openai");

const url = (process.env.THROUGHLINE_URL ?? "http://127.0.0.1:8787").replace(/\/$/, "");
// The SDK wants a key. A server without --tokens does not look at it.
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.THROUGHLINE_TOKEN ?? "none", timeout: 10_000 });

async function main() {
  const input = process.argv.slice(2).join(" ") || "She still parks behind the bakery. I will be there at six and she will listen this time.";
  // By itself: no history is looked at, and none is kept.
  const alone = await client.moderations.create({ model: "omni-moderation-latest", input });
  console.log("alone: flagged", alone.results[0].flagged, alone.results[0].category_scores.harassment.toFixed(3));
  // As the next message of a user whose turns are kept.
  const headers = { "X-Throughline-User": "demo", "X-Throughline-Session": "today" };
  const inHistory = await client.moderations.create({ model: "omni-moderation-latest", input: [input, "Good morning!"] }, { headers });
  console.log("in the history of demo:", inHistory.results.map((result) => result.flagged), "by", inHistory.model);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
