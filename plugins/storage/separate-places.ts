import type { BackendDefinition } from '../../backends/definition.ts'
import { within } from '../../lib/within.ts'
import { ConfigError } from '../config.ts'
import { startSeconds } from './backends.ts'

interface Configured {
  name: string
  definition: BackendDefinition
  options: Record<string, unknown>
}

/**
 * Of two volumes of which one is inside the other, each would take the other one's files for its own, and its cleanup
 * would remove them.
 * @throws {ConfigError}
 */
export async function requireSeparatePlaces(variable: string, volumes: Configured[]): Promise<void> {
  if (volumes.length < 2) return
  const found = await Promise.all(
    volumes.map(async (volume) => ({ name: volume.name, places: await placesOf(volume) })),
  )
  for (const [index, one] of found.entries()) {
    for (const other of found.slice(0, index)) {
      const relation = relationOf(one.places, other.places)
      if (relation === undefined) continue
      throw new ConfigError(
        `${variable} must give each volume a place of its own: ${one.name} ${relation} ${other.name}`,
      )
    }
  }
}

async function placesOf({ definition, options }: Configured): Promise<string[]> {
  if (definition.places === undefined) return []
  try {
    const places = await within(startSeconds, definition.places(options))
    return places.map((place) => `${definition.type} ${place}`)
  } catch {
    // What cannot be looked at cannot be used either, and the backend says so better.
    return []
  }
}

function relationOf(one: string[], other: string[]): string | undefined {
  const [own, others] = [one.at(-1), other.at(-1)]
  if (own === undefined || others === undefined) return undefined
  if (own === others) return 'is in the same place as'
  if (one.includes(others)) return 'is inside'
  return other.includes(own) ? 'is around' : undefined
}
