/** What a plugin's tests import as `storage-proxy/conformance`. */
export * from '../backends/conformance/index.ts'
