/**
 * What a plugin imports as `storage-proxy/backend`: the contract, the errors that it throws, the rules of paths and the
 * order of listings; and the type of `app.backends`, where it registers.
 */
export * from '../backends/backend.ts'
export * from '../backends/capabilities.ts'
export * from '../backends/definition.ts'
export * from '../backends/errors.ts'
export * from '../backends/order.ts'
export * from '../backends/path.ts'
export * from '../backends/pattern.ts'
export type * from '../plugins/storage/backends.ts'
