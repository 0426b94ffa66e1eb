import type { ReactNode } from "react";
import "./style.css";

export const metadata = { title: "Tasks" };
export const viewport = { width: "device-width", initialScale: 1 };

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
