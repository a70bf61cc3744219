// Loaded before a service by `--import`: its wall clock is wrong by `CLOCK_SHIFT_MILLISECONDS`.
const shift = Number(process.env.CLOCK_SHIFT_MILLISECONDS)
const RealDate = Date

class ShiftedDate extends RealDate {
  constructor(...given: [] | ConstructorParameters<DateConstructor>) {
    if (given.length === 0) super(RealDate.now() + shift)
    else super(...given)
  }

  static override now(): number {
    return RealDate.now() + shift
  }
}

Object.assign(globalThis, { Date: ShiftedDate })
