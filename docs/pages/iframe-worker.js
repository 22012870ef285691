// Browsers start no worker from a file. Where the pages are opened from a folder, the search runs in a hidden frame
// instead, which answers as the worker would.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      script.src = url
      const loaded = new Promise(resolve => { script.onload = resolve })
      inside.document.body.append(script)
      this.postMessage = data => loaded.then(() => inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
