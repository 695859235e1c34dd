import { ConvoyProvider, createConvoyClient } from 'convoy/react';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Chat } from './chat';

const client = createConvoyClient();

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <ConvoyProvider client={client}>
      <Chat />
    </ConvoyProvider>
  </StrictMode>,
);
