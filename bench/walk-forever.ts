import { call, posixIn } from './posix.ts'

// Counts one vfolder again and again.
const [, , root = '', folder = ''] = process.argv
const { backend } = await posixIn(root)
for (;;) await backend.usage(folder, call)
