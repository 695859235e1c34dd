// Which client the hooks of a component use.

import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from "react";
import type { ConvoyClient } from "../client/client.js";
import { createConvoyClient } from "../client/create.js";

const Context = createContext<ConvoyClient | null>(null);

export interface ConvoyProviderProps {
  readonly client: ConvoyClient;
  readonly children?: ReactNode;
}

/** Gives its client to all hooks below it. */
export function ConvoyProvider({ client, children }: ConvoyProviderProps): ReactElement {
  return createElement(Context.Provider, { value: client }, children);
}

let pageClient: ConvoyClient | null = null;

/** Returns the client of the nearest `ConvoyProvider`; where there is none, one for the page's own server. */
export function useConvoy(): ConvoyClient {
  return useContext(Context) ?? (pageClient ??= createConvoyClient());
}

/** Returns a number that is another when somebody else is logged in; renders the component again then. */
export function useIdentity(client: ConvoyClient): number {
  const subscribe = useCallback((callback: () => void) => client.onIdentityChange(callback), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.identityVersion,
    () => 0,
  );
}
