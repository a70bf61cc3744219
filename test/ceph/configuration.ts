interface Places {
  directory: string
  fsid: string
  monPort: number
  s3Port: number
}

/**
 * A ceph.conf for a cluster that is small, quick and gone when it ends. Deleted objects are freed within seconds, not
 * hours, since they take up memory.
 */
export function configuration({ directory, fsid, monPort, s3Port }: Places): string {
  return `
[global]
fsid = ${fsid}
mon host = [v2:127.0.0.1:${monPort}/0]
keyring = ${directory}/keyring
ms bind ipv4 = true
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 1
mon warn on pool no redundancy = false
osd objectstore = memstore
memstore device bytes = 8589934592
memstore page set = false
osd memory target = 1073741824
debug none = 0
log file = ${directory}/$name.log
pid file = ${directory}/$type.pid
admin socket = ${directory}/$name.asok
run dir = ${directory}
[mon.a]
mon data = ${directory}/mon
pid file = ${directory}/mon.pid
[osd.0]
osd data = ${directory}/osd
pid file = ${directory}/osd.pid
[mgr.x]
mgr data = ${directory}/mgr
pid file = ${directory}/mgr.pid
[mds.m]
mds data = ${directory}/mds
pid file = ${directory}/mds.pid
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:${s3Port} tcp_nodelay=1
rgw data = ${directory}/rgw
pid file = ${directory}/radosgw.pid
rgw dns name = localhost
rgw enable usage log = false
rgw enable ops log = true
rgw ops log rados = false
rgw ops log file path = ${directory}/ops.log
rgw multipart min part size = 5242880
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
`
}
