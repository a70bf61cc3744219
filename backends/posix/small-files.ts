import { readSmallTogether, type SmallFile } from './many/index.ts'
import { smallFilesAtOnce } from './many/messages.ts'

/** So many files make a trip to a thread worth more than one trip for each system call. */
const worthwhile = 4
/** The longest wait for a group: one of the files may hang, which has nothing to do with the others. */
const patienceMilliseconds = 10

interface Asked {
  location: string
  answer(file: SmallFile | undefined): void
}

/**
 * Reads small files together that are asked for in the same turn of the event loop, or while others are read, as under
 * load. Gives undefined where that is not worth while or not that simple; then the caller reads the file itself.
 */
export function createSmallFileReader(): (location: string) => Promise<SmallFile | undefined> {
  const asked: Asked[] = []
  let reading = false

  async function read(): Promise<void> {
    while (asked.length > 0) {
      const group = asked.splice(0, smallFilesAtOnce)
      answerAll(group, group.length < worthwhile ? [] : await readTogether(group))
    }
    reading = false
  }

  async function readTogether(group: Asked[]): Promise<(SmallFile | undefined)[]> {
    const impatience = setInterval(() => answerAll([...group, ...asked.splice(0)]), patienceMilliseconds)
    try {
      return await readSmallTogether(group.map(({ location }) => location))
    } finally {
      clearInterval(impatience)
    }
  }

  return (location) =>
    new Promise((answer) => {
      asked.push({ location, answer })
      if (!reading) setImmediate(read)
      reading = true
    })
}

/** Only the first answer counts. */
function answerAll(group: Asked[], files: (SmallFile | undefined)[] = []): void {
  for (const [index, { answer }] of group.entries()) answer(files[index])
}
