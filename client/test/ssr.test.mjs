// On a server: imports touch nothing of a browser, hooks render what they show before anything is there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement as h } from "react";
import { renderToString } from "react-dom/server";
import { anyApi as api } from "convoy/client";
import { ConvoyProvider, createConvoyClient, useMutation, usePaginatedQuery, useQuery } from "convoy/react";

function View() {
  const query = useQuery(api.messages.list, {});
  const skipped = useQuery(api.messages.list, "skip");
  const list = usePaginatedQuery(api.messages.page, {}, { initialNumItems: 3 });
  useMutation(api.messages.send);
  return `${query.isLoading} ${query.connectionState} ${skipped.isLoading} ${list.status}`;
}

test("hooks render on a server, without a request", () => {
  assert.equal(typeof window, "undefined");
  const client = createConvoyClient({ fetch: () => assert.fail("a request was made") });
  assert.equal(renderToString(h(ConvoyProvider, { client }, h(View))), "true connecting false LoadingFirstPage");
  assert.equal(renderToString(h(View)), "true connecting false LoadingFirstPage", "and without a provider");
});
