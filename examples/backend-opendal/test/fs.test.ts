import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { conforms } from './subject.ts'

const root = await mkdtemp(join(tmpdir(), 'backend-opendal-'))
after(() => rm(root, { recursive: true }))
await conforms('fs', { root })
