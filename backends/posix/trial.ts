import fs from 'node:fs'
import { basename, join } from 'node:path'
import { AccessDenied } from '../errors.ts'
import { type Ownership, openDirectory, setOwnership } from './directory.ts'
import { translateErrorsOf } from './errno.ts'
import { chmod, close, mkdir, open, removeFile, rename, rmdir } from './files.ts'
import { openStep } from './inside.ts'
import type { Layout } from './layout.ts'

const { O_CREAT, O_RDONLY, O_WRONLY } = fs.constants

/**
 * Makes a directory with a file in it as users get them, and removes both, so that an owner or a mode that the service
 * cannot give, or could not go on with, is told at the start.
 * @throws {AccessDenied} for these only: a volume that is full, or mounted read-only, is none of the options' doing
 */
export async function tryOwnership(layout: Layout, ownership: Ownership): Promise<void> {
  const place = layout.newStaging()
  try {
    await mkdir(place, 0o700)
  } catch {
    // The health of the volume tells it.
    return
  }
  const what = 'what is made with these uid, gid, fileMode and directoryMode'
  try {
    await translateErrorsOf(what, () => makeInside(layout, basename(place), ownership))
  } catch (error) {
    if (error instanceof AccessDenied) throw error
  } finally {
    await chmod(place, 0o700).catch(() => {})
    await removeTrial(place).catch(() => {})
  }
}

async function removeTrial(place: string): Promise<void> {
  for (const name of ['staged', 'file']) await removeFile(join(place, name))
  await rmdir(place)
}

async function makeInside(layout: Layout, name: string, ownership: Ownership): Promise<void> {
  const directory = await openDirectory(layout.staging, [name])
  try {
    const staged = directory.at('staged')
    const fd = await open(staged, O_WRONLY | O_CREAT, 0o600)
    try {
      await setOwnership(fd, ownership, ownership.fileMode)
    } finally {
      close(fd)
    }
    await setOwnership(directory.fd, ownership, ownership.directoryMode)
    await rename(staged, directory.at('file'))
    close(await open(join(layout.staging, name, 'file'), O_RDONLY))
    close(await openStep(join(layout.staging, name)))
  } finally {
    directory.close()
  }
}
