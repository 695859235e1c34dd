import { useCallback, useSyncExternalStore } from "react";
import type { ConnectionState } from "../client/machine.js";
import { useConvoy } from "./context.js";

/** Returns how the stream is, for a sign that shows it once for the whole page. */
export function useConnectionState(): ConnectionState {
  const client = useConvoy();
  const subscribe = useCallback((callback: () => void) => client.onConnectionChange(callback), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.connectionState,
    () => "connecting" as const,
  );
}
