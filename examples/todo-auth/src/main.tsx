import { ConvoyProvider, createConvoyClient } from 'convoy/react';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app';
import { currentToken, followSession } from './session';

const client = createConvoyClient({ auth: currentToken });
followSession(client);

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <ConvoyProvider client={client}>
      <App />
    </ConvoyProvider>
  </StrictMode>,
);
