const tokens = /"(?:[^"\\]|\\.)*"|[{}[\],:]/g

/** A key that an object of this text, which is JSON, has twice. Of two values `JSON.parse` silently takes the last. */
export function findDuplicateKey(json: string): string | undefined {
  const open: (Set<string> | undefined)[] = []
  let string = ''
  for (const [token] of json.matchAll(tokens)) {
    if (token === '{') open.push(new Set())
    else if (token === '[') open.push(undefined)
    else if (token === '}' || token === ']') open.pop()
    else if (token === ':') {
      const key: string = JSON.parse(string)
      const keys = open.at(-1)
      if (keys?.has(key)) return key
      keys?.add(key)
    } else if (token !== ',') string = token
  }
  return undefined
}
