import type { Call, Cloned, QuotaLimits, Usage } from '../backend.ts'
import type { CreateContext } from '../definition.ts'
import { access, homeOf, type Layout, type Parts, shareOf, translateErrors } from '../posix/compose.ts'
import { createAsk } from './ask.ts'
import type { Commands } from './options.ts'

/** What the programs of a volume do for it: a member for each command that is configured. */
export function commandParts(
  layout: Layout,
  commands: Commands,
  context: Pick<CreateContext<unknown>, 'log' | 'requestId'>,
): Parts {
  const ask = createAsk(commands, context, shareOf(layout.root))

  /** A vfolder as a program gets to know it: all that belongs to it, and the directory in there with its entries. */
  const describe = async (folder: string) => {
    const files = layout.folder(folder)
    await translateErrors('the vfolder', () => access(files))
    return { id: folder, path: layout.onHost(homeOf(files)), files: layout.onHost(files) }
  }

  return {
    ...(commands.quota && {
      async quota(folder: string, limits: QuotaLimits, call: Call): Promise<void> {
        await ask('quota', { folder: await describe(folder), limits }, call)
      },
    }),
    ...(commands.usage && {
      async usage(folder: string, call: Call): Promise<Usage> {
        return ask('usage', { folder: await describe(folder) }, call)
      },
    }),
    ...(commands.clone && {
      async clone(from: string, to: string, call: Call): Promise<Cloned> {
        const copied = await ask('clone', { from: await describe(from), to: await describe(to) }, call)
        return { ...copied, changed: [], changedCount: 0 }
      },
    }),
  }
}
