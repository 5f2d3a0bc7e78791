// Shows: a just-in-time compiler, a garbage collector and a thread pool. `calls N`: N rounds -> done rounds= bad=
const crypto = require("crypto");
const readline = require("readline");

function text() {
    const parts = [];
    for (let n = 0; n < 50; n++) parts.push(String(n * n));
    return parts.join(",");
}

const digest = (data) => crypto.createHash("sha256").update(data).digest("hex");
const expected = digest(text());

// In the thread pool.
const derive = () =>
    new Promise((resolve, reject) =>
        crypto.pbkdf2("a", "b", 10, 16, "sha256", (error, key) => (error ? reject(error) : resolve(key.toString("hex")))));

async function run(rounds) {
    let bad = 0;
    const first = await derive();
    for (let n = 0; n < rounds; n++) {
        if (digest(text()) !== expected) bad++;
        if (n % 50 === 0 && (await derive()) !== first) bad++;
    }
    return bad;
}

console.log(`ready pid=${process.pid}`);
(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const rounds = Number(line.split(" ")[1]);
        console.log(`done rounds=${rounds} bad=${await run(rounds)}`);
    }
})();
