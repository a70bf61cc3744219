import type { Family } from '../../../lib/metric-families.ts'
import type { Instrument } from './instruments.ts'

/** The instruments of this process. */
export class Meters {
  readonly #instruments: Instrument[] = []
  readonly #ends: (() => void)[] = []

  add<I extends Instrument>(instrument: I): I {
    this.#instruments.push(instrument)
    return instrument
  }

  /** Calls this at the end of the service. */
  until(end: () => void): void {
    this.#ends.push(end)
  }

  collect(): Family[] {
    return this.#instruments.map((instrument) => instrument.collect())
  }

  end(): void {
    for (const end of this.#ends) end()
  }
}
