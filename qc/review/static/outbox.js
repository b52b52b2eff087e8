// Verdicts on their way to the server. They wait in the browser's storage until the server has them, so neither a
// reload nor a server that is away loses one; each has an id of its own, so none counts twice.

const PATIENCE_MS = [300, 1000, 2000, 4000];

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  constructor(reviewer, csrfToken, { onChange, onStored, onRefused }) {
    this.key = `halosign-outbox-${reviewer}`;
    this.csrfToken = csrfToken;
    this.hooks = { onChange, onStored, onRefused };
    this.failures = 0;
    this.sending = null;
    this.retry = 0;
  }

  get waiting() {
    try {
      return JSON.parse(localStorage.getItem(this.key)) ?? [];
    } catch {
      return [];
    }
  }

  keep(waiting) {
    localStorage.setItem(this.key, JSON.stringify(waiting));
    this.hooks.onChange(waiting.length, this.failures > 0);
  }

  add(verdict) {
    this.keep([...this.waiting, verdict]);
    this.send();
  }

  // Resolves once nothing waits or the server does not take it, also for those who ask while verdicts are on their way.
  send() {
    this.sending ??= this.sendAll().finally(() => { this.sending = null; });
    return this.sending;
  }

  async sendAll() {
    clearTimeout(this.retry);
    while (this.waiting.length) {
      const verdict = this.waiting[0];
      const answer = await this.post(verdict);
      if (answer === null || answer.status >= 500 || answer.status === 401) {
        this.failures += 1;
        this.hooks.onChange(this.waiting.length, true, answer?.status === 401);
        const pause = PATIENCE_MS[Math.min(this.failures, PATIENCE_MS.length) - 1];
        this.retry = setTimeout(() => this.send(), pause);
        break;
      }
      const content = await answer.json().catch(() => ({}));
      this.failures = 0;
      this.keep(this.waiting.filter((one) => one.id !== verdict.id));
      if (answer.ok) this.hooks.onStored(verdict);
      else this.hooks.onRefused(verdict, content.error ?? `error ${answer.status}`);
    }
  }

  async post(verdict) {
    try {
      return await fetch("/api/verdicts", {
        method: "POST",
        headers: { "content-type": "application/json", "x-halosign-csrf-token": this.csrfToken },
        body: JSON.stringify(verdict),
      });
    } catch {
      return null;
    }
  }
}
