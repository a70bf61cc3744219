/**
 * How a file appears in one step:
 *
 * - `rename`: it is written elsewhere and renamed;
 * - `close`: it is there when its writer is closed, as an object is after a PUT or the end of a multipart upload;
 * - `put`: it is sent in one request, so it has to fit into memory.
 */
export type Publication = 'rename' | 'close' | 'put'

interface Service {
  publication: Publication
  /** Whether "only if absent" is decided by the storage; otherwise by this process alone. */
  conditional: boolean
  /** What fails may succeed when it is asked again. */
  remote: boolean
}

/**
 * The services that replace a file in one step. Others that OpenDAL has do not, or are not in its npm package: SFTP, FTP
 * and HDFS are not.
 */
export const services: Record<string, Service> = {
  // `if_not_exists` of OpenDAL's fs looks before it renames.
  fs: { publication: 'rename', conditional: false, remote: false },
  s3: { publication: 'close', conditional: true, remote: true },
  gcs: { publication: 'close', conditional: true, remote: true },
  azblob: { publication: 'close', conditional: true, remote: true },
  oss: { publication: 'close', conditional: true, remote: true },
  cos: { publication: 'close', conditional: true, remote: true },
  obs: { publication: 'close', conditional: false, remote: true },
  b2: { publication: 'close', conditional: false, remote: true },
  webdav: { publication: 'put', conditional: false, remote: true },
}
