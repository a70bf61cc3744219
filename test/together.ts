import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const filesOfGroup = 6

/** Begun first: they take longest, and wait for a server of S3 while others keep the processors busy. */
const longest = ['test/storage/s3-conformance.test.ts', 'test/storage/s3-service.test.ts']

/** These look at the threads or the memory of their process. */
const alone = ['test/unit/buffers.test.ts', 'test/unit/hashing.test.ts']

/**
 * Has the files of test/unit, and those that share a server, run one after the other in a few processes: most take less
 * processor time than tap and a server need to begin.
 *
 * @param directory of this run; in the project, since tap puts what a file says into `.tap/` by its path relative to that
 * @returns the files that are to be run instead, in the order in which they are best begun
 */
export function together(files: string[], directory: string): string[] {
  const units = files.filter((file) => file.startsWith('test/unit/') && !alone.includes(file))
  const sharing = files.filter((file) => readFileSync(file, 'utf8').includes("from '../shared-server.ts'"))
  const first = files.filter((file) => longest.includes(file))
  const others = files.filter((file) => ![...units, ...sharing, ...first].includes(file))
  return [
    ...first,
    ...groupsOf(sharing, join(directory, 'sharing')),
    ...groupsOf(units, join(directory, 'units')),
    ...others,
  ]
}

function groupsOf(files: string[], name: string): string[] {
  const count = Math.ceil(files.length / filesOfGroup)
  return Array.from({ length: count }, (_, index) => {
    const file = `${name}-${index + 1}.test.mjs`
    writeFileSync(file, scriptFor(files.filter((_, place) => place % count === index)))
    return file
  })
}

/** The next file is imported when all tests of the one before have ended, and let go of what they had. */
function scriptFor(files: string[]): string {
  return `import t from 'tap'
for (const file of ${JSON.stringify(files.map((file) => resolve(file)))}) {
  await t.test(file, async () => { await import(file) })
  await t.test('its end', async () => {})
}
`
}
