import { writeSync } from 'node:fs'

/** So many bytes of the log wait while nobody reads it or its disk is full. Lines beyond that are dropped. */
const mostWaiting = 4 * 1024 * 1024
const firstPause = 1
const longestPause = 100
/** How long a process that ends waits for the reader of its log. */
const exitMilliseconds = 1000

/**
 * Writes the lines of one turn of the event loop together, synchronously at its end: one system call for each line
 * would be a tenth of the cost of a small request. A process that is killed loses the lines of its last turn at most.
 *
 * A log that does not move never holds up the service. `logDropped` is called when it moves again and lacks lines.
 * @param fd must be non-blocking when it is a pipe or socket; Node makes it so when it opens `process.stdout`
 */
export function createLogStream(fd: number, logDropped: (lines: number) => void) {
  let lines = ''
  let waiting: Buffer[] = []
  let waitingBytes = 0
  let dropped = 0
  let reason: unknown
  let pause = firstPause

  function flushSync(): void {
    if (lines === '') return
    const text = lines
    lines = ''
    if (waiting.length > 0) {
      keepOrDrop(text)
      return
    }
    const written = tryToWrite(text)
    if (written === Buffer.byteLength(text)) return
    keep(Buffer.from(text).subarray(written))
    retryLater(firstPause)
  }

  function tryToWrite(data: string | Buffer): number {
    try {
      return typeof data === 'string' ? writeSync(fd, data) : writeSync(fd, data)
    } catch (error) {
      reason = error
      return 0
    }
  }

  function keep(data: Buffer): void {
    waiting.push(data)
    waitingBytes += data.length
  }

  /** Once a line is dropped all are, until nothing waits any more: so the log has one gap, and says where. */
  function keepOrDrop(text: string): void {
    if (dropped === 0 && waitingBytes < mostWaiting) {
      keep(Buffer.from(text))
      return
    }
    if (dropped === 0) complain(`the log does not move, and lines are dropped: ${reason}`)
    dropped += text.split('\n').length - 1
  }

  function writeWaiting(): void {
    for (const [index, data] of waiting.entries()) {
      const written = tryToWrite(data)
      waitingBytes -= written
      if (written === data.length) continue
      waiting = [data.subarray(written), ...waiting.slice(index + 1)]
      return
    }
    waiting = []
  }

  function retryLater(milliseconds: number): void {
    pause = milliseconds
    setTimeout(retry, pause).unref()
  }

  function retry(): void {
    const before = waitingBytes
    writeWaiting()
    if (waiting.length > 0) retryLater(waitingBytes < before ? firstPause : Math.min(2 * pause, longestPause))
    else if (dropped > 0) tellDropped()
  }

  function tellDropped(): void {
    const lost = dropped
    dropped = 0
    complain(`the log moves again; ${lost} lines were dropped`)
    logDropped(lost)
  }

  process.on('exit', () => {
    flushSync()
    const end = performance.now() + exitMilliseconds
    for (writeWaiting(); waiting.length > 0 && performance.now() < end; writeWaiting()) standStill(firstPause)
    if (dropped > 0 || waiting.length > 0) complain(`the end of the log is lost: ${reason}`)
  })

  return {
    flushSync,
    write(line: string): void {
      if (lines === '') setImmediate(flushSync)
      lines += line
    },
  }
}

function complain(text: string): void {
  writeToStderr(`${text}\n`)
}

/** Unless it is stuck, as it may well be when the log is. */
export function writeToStderr(data: string): void {
  try {
    writeSync(process.stderr.fd, data)
  } catch {}
}

function standStill(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}
