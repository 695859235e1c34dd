/** Waits until `read()` is truthy, looking again whenever `watch` calls back; fails after `ms` with what was there. */
export function until(watch, read, ms = 15_000) {
  return new Promise((resolve, reject) => {
    let end = () => {};
    const timer = setTimeout(() => {
      end();
      reject(new Error(`not within ${ms} ms; at the end: ${JSON.stringify(watch.getCurrent?.())?.slice(0, 1_000)}`));
    }, ms);
    const look = () => {
      let value;
      try {
        value = read();
      } catch (error) {
        clearTimeout(timer);
        end();
        reject(error);
        return;
      }
      if (!value) return;
      clearTimeout(timer);
      queueMicrotask(() => end());
      resolve(value);
    };
    end = watch.onUpdate(look);
    look();
  });
}

/** Waits until the watch shows data for which `check` holds; returns the data. */
export function shows(watch, check, ms) {
  return until(watch, () => {
    const { data } = watch.getCurrent();
    return data !== undefined && check(data) ? { data } : null;
  }, ms).then(({ data }) => data);
}
